"""Every platform by its own verifier, and no platform by none."""

import hashlib

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.sealed_log import parse_boot_id, report_data
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.measurements.image import READERS
from guest_owner.kbs.references.roots import VENDOR_PLATFORMS
from guest_owner.kbs.verifiers.table import VERIFIERS, find_verified_tee, verify_log_evidence
from guest_owner.kbs.verifiers.vendor_certificates import CHECKS
from tests.unit.guest_owner.kbs.values import booted_tpm, reference_set, references

IMAGE = reference_set()


PARAVISORS = {Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM, Tee.SVSM}


def test_platforms_with_a_verifier_have_reference_values_and_no_others() -> None:
    """The vTPM of a paravisor has the registers of any TPM."""
    assert set(VERIFIERS) - PARAVISORS == set(READERS)


def test_find_verified_tee_knows_the_table() -> None:
    assert [find_verified_tee(tee.value) for tee in VERIFIERS] == list(VERIFIERS)


@pytest.mark.parametrize("name", ["", "sampledevice", "TPM", "tpm ", "cca", "x" * 1000])
def test_find_verified_tee_refuses_other_names(name: str) -> None:
    with pytest.raises(FormatError, match="no verifier for") as refused:
        find_verified_tee(name)
    assert refused.value.reason == "evidence.tee"


def test_verify_log_evidence_binds_boot_and_signing_key() -> None:
    tpm = booted_tpm(IMAGE)
    trusted = references(IMAGE, tpm=tpm)
    boot_id, signing_key = parse_boot_id(bytes(range(16))), b"k" * 32
    evidence = tpm.quote(report_data(boot_id, signing_key)).to_json_value()
    appraised = verify_log_evidence(
        Tee.TPM, evidence, boot_id=boot_id, signing_key=signing_key, references=trusted
    )
    assert (
        appraised.report_data == hashlib.sha512(b"ccinit/log/v1\0" + boot_id + signing_key).digest()
    )
    with pytest.raises(EvidenceRefusedError) as caught:
        verify_log_evidence(
            Tee.TPM, evidence, boot_id=boot_id, signing_key=b"j" * 32, references=trusted
        )
    assert caught.value.reason == "quote.report_data"


def test_certificates_of_every_vendor_are_looked_at() -> None:
    assert set(CHECKS) == set(VENDOR_PLATFORMS)
