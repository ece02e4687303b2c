"""How a host asks for a stand-in, and where there is none to be had."""

import sys
from pathlib import Path

import pytest

from ccinit.attest.detect import detect_platform
from ccinit.attest.simulated.machine import (
    SERIAL_NUMBER,
    SIMULATIONS,
    find_simulated,
    serial_number,
)
from ccinit.errors import ConfigError
from ccinit.formats.evidence.tee import Tee, initdata_binding
from rootfs_builder.file_list import read_listed
from tests.fakes.platforms.platform_signs import FakeSigns

ROOT = Path(__file__).parents[5]


def asking(tee: Tee) -> dict[str, str]:
    field = bytes(initdata_binding(tee).size_bytes)
    return {SERIAL_NUMBER: serial_number(tee, field)}


@pytest.mark.parametrize("serial", ["", "Not Specified", "snp-sim:" + "00" * 32])
def test_machine_that_does_not_ask_for_it_has_none(serial: str) -> None:
    assert find_simulated({SERIAL_NUMBER: serial}.__getitem__) is None


@pytest.mark.parametrize("tee", list(SIMULATIONS))
def test_machine_that_asks_for_a_platform_has_it(tee: Tee) -> None:
    platform = detect_platform(FakeSigns(texts=asking(tee)))
    assert (platform.tee, platform.nodes, platform.register) == (tee, (), None)


@pytest.mark.parametrize("tee", list(SIMULATIONS))
@pytest.mark.parametrize("more", ["00", "no", "0"])
def test_launch_field_of_another_form_is_refused(tee: Tee, more: str) -> None:
    serial = asking(tee)[SERIAL_NUMBER] + more
    with pytest.raises(ConfigError) as refused:
        find_simulated({SERIAL_NUMBER: serial}.__getitem__)
    assert refused.value.reason == "attest.simulated"


@pytest.mark.parametrize("more", [{"/dev/tpmrm0"}, {"/dev/sev-guest"}])
def test_simulated_platform_beside_a_real_one_is_refused(more: set[str]) -> None:
    with pytest.raises(ConfigError, match="a simulated snp") as refused:
        detect_platform(FakeSigns(paths=more, texts=asking(Tee.SNP)))
    assert refused.value.reason == "attest.ambiguous"


def test_r19_root_without_the_module_has_no_simulated_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ccinit.attest.simulated.machine", None)
    with pytest.raises(ConfigError) as refused:
        detect_platform(FakeSigns(texts=asking(Tee.SNP)))
    assert refused.value.reason == "attest.none"


def test_r19_package_is_listed_for_test_images_alone() -> None:
    listed = read_listed(ROOT / "rootfs-builder/mkosi/test-only.list")
    assert "ccinit.attest.simulated" in {entry.name for entry in listed}
