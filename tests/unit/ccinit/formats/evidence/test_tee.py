"""What each platform makes of a handshake's digest, and where it holds the initdata's."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Binding, Tee, initdata_binding, report_data_for, report_hash

DIGEST = bytes(range(1, 49))
LONG_DIGEST = bytes(range(1, 65))


@pytest.mark.parametrize(
    ("tee", "report_data"),
    [
        (Tee.TPM, DIGEST[:32]),
        (Tee.AZ_SNP_VTPM, DIGEST),
        (Tee.AZ_TDX_VTPM, DIGEST),
        (Tee.SNP, DIGEST + bytes(16)),
        (Tee.TDX, DIGEST + bytes(16)),
        (Tee.CCA, DIGEST + bytes(16)),
        (Tee.SAMPLE, DIGEST),
        (Tee.SE, LONG_DIGEST),
        (Tee.SEV, DIGEST + bytes(16)),
        (Tee.SVSM, DIGEST + bytes(16)),
    ],
)
def test_digest_enters_the_report_data_of_each_platform(tee: Tee, report_data: bytes) -> None:
    digest = LONG_DIGEST if report_hash(tee) == "sha512" else DIGEST
    assert report_data_for(tee, digest) == report_data


@pytest.mark.parametrize(
    ("tee", "length"),
    [(tee, length) for tee in Tee for length in (0, 32, 47, 49, 64 if tee is not Tee.SE else 48)],
)
def test_digest_of_another_length_is_refused(tee: Tee, length: int) -> None:
    with pytest.raises(FormatError) as refused:
        report_data_for(tee, bytes(length))
    assert refused.value.reason == "rcar.digest"


@pytest.mark.parametrize(
    ("tee", "binding", "algorithm", "size_bytes"),
    [
        (Tee.TPM, Binding.EXTENDED, "sha256", 32),
        (Tee.AZ_SNP_VTPM, Binding.EXTENDED, "sha256", 32),
        (Tee.AZ_TDX_VTPM, Binding.EXTENDED, "sha256", 32),
        (Tee.SNP, Binding.COMPARED, "sha256", 32),
        (Tee.TDX, Binding.COMPARED, "sha384", 48),
        (Tee.CCA, Binding.COMPARED, "sha384", 64),
        (Tee.SE, Binding.STATED, "sha384", 48),
        (Tee.SEV, Binding.COMPARED, "sha256", 32),
        (Tee.SVSM, Binding.EXTENDED, "sha256", 32),
        (Tee.SAMPLE, Binding.NOTHING, "sha256", 0),
    ],
)
def test_initdata_has_one_place_and_one_algorithm_by_platform(
    tee: Tee, binding: Binding, algorithm: str, size_bytes: int
) -> None:
    place = initdata_binding(tee)
    assert (place.binding, place.algorithm, place.size_bytes) == (binding, algorithm, size_bytes)
