"""Exactly one platform, found by its nodes."""

from pathlib import Path

import pytest

from ccinit.attest import detect
from ccinit.attest.detect import Node, Platform, detect_platform
from ccinit.errors import ConfigError
from ccinit.formats.tee import Tee

NO_FLAGS = {"/sys/devices/system/cpu/svm": "", "/sys/firmware/uv/prot_virt_guest": ""}


def no_text(_path: str) -> str:
    return ""


@pytest.mark.parametrize(
    ("nodes", "device"),
    [
        ({"/dev/tpmrm0", "/dev/tpm0"}, "/dev/tpmrm0"),
        ({"/dev/tpm0"}, "/dev/tpm0"),
    ],
)
def test_one_tpm_is_found(nodes: set[str], device: str) -> None:
    assert detect_platform(nodes.__contains__, no_text) == Platform(
        tee=Tee.TPM, nodes=(Node(name="tpm", path=device, writable=True),)
    )


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
        detect_platform(nodes.__contains__, no_text)
    assert refused.value.reason == reason
    assert named in refused.value.detail


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("/sys/devices/system/cpu/svm", "pef: POWER's ultravisor"),
        ("/sys/firmware/uv/prot_virt_guest", "se: there is no attester"),
    ],
)
def test_platform_that_only_a_flag_tells_is_refused_by_name(flag: str, named: str) -> None:
    for text, reason in (("1\n", "attest.unsupported"), ("0\n", "attest.none")):
        with pytest.raises(ConfigError) as refused:
            detect_platform(lambda _path: False, {**NO_FLAGS, flag: text}.__getitem__)
        assert refused.value.reason == reason
        assert (named in refused.value.detail) is (text == "1\n")


def test_flags_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flag").write_text("1\n")
    row = detect._Row(name="flagged", flag=str(tmp_path / "flag"))
    monkeypatch.setattr(detect, "_TABLE", (row,))
    with pytest.raises(ConfigError, match="flagged"):
        detect_platform()
    (tmp_path / "flag").unlink()
    with pytest.raises(ConfigError, match="no platform"):
        detect_platform()
