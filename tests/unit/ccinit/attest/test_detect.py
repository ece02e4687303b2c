"""Exactly one platform, found by its nodes."""

import pytest

from ccinit.attest.attester import Tee
from ccinit.attest.detect import Platform, detect_platform
from ccinit.errors import ConfigError


@pytest.mark.parametrize(
    ("nodes", "device"),
    [
        ({"/dev/tpmrm0", "/dev/tpm0"}, "/dev/tpmrm0"),
        ({"/dev/tpm0"}, "/dev/tpm0"),
    ],
)
def test_one_tpm_is_found(nodes: set[str], device: str) -> None:
    assert detect_platform(nodes.__contains__) == Platform(tee=Tee.TPM, device=device)


@pytest.mark.parametrize(
    ("nodes", "reason", "named"),
    [
        pytest.param(set(), "attest.none", "", id="nothing"),
        pytest.param({"/dev/sev-guest"}, "attest.unsupported", "snp", id="snp"),
        pytest.param({"/dev/tdx_guest"}, "attest.unsupported", "tdx", id="tdx"),
        pytest.param({"/dev/csv-guest"}, "attest.unsupported", "csv", id="csv"),
        pytest.param(
            {"/dev/tdx_guest", "/dev/tpmrm0"}, "attest.ambiguous", "tdx, tpm", id="tdx with a tpm"
        ),
        pytest.param(
            {"/dev/sev-guest", "/dev/tdx_guest"}, "attest.ambiguous", "snp, tdx", id="two"
        ),
        pytest.param(
            {"/dev/tpmrm0", "/dev/tpm1"}, "attest.ambiguous", "tpm, a second tpm", id="two tpms"
        ),
    ],
)
def test_other_than_one_known_platform_is_refused(nodes: set[str], reason: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        detect_platform(nodes.__contains__)
    assert refused.value.reason == reason
    assert named in refused.value.detail
