"""Report data by platform."""

from ccinit.attest.attester import Tee, report_data_for


def test_tpm_carries_the_first_32_bytes_of_a_digest() -> None:
    assert report_data_for(Tee.TPM, bytes(range(48))) == bytes(range(32))
