"""A device that proves nothing: in test images, where the host asks for it."""

import sys
from pathlib import Path

import pytest

from ccinit.attest.composite import collect_additional_evidence, make_device_attesters
from ccinit.attest.detect import detect_platform
from ccinit.attest.sample_device import ASSET_TAG, WANTED
from ccinit.errors import ConfigError
from rootfs_builder.file_list import read_listed
from tests.fakes.platforms.platform_signs import FakeSigns

ROOT = Path(__file__).parents[4]
ASKED = FakeSigns(paths={"/dev/tpm0"}, texts={ASSET_TAG: f"{WANTED}\n"})


def test_device_is_found_where_the_host_asks_for_it() -> None:
    assert detect_platform(ASKED).devices == ("sampledevice",)
    assert detect_platform(FakeSigns(paths={"/dev/tpm0"})).devices == ()


def test_evidence_repeats_the_digest() -> None:
    devices = make_device_attesters(("sampledevice",))
    assert (
        collect_additional_evidence(devices, bytes(48))
        == '{"sampledevice":{"svn":"2","report_data":"' + "A" * 64 + '"}}'
    )


def test_r19_root_without_the_module_has_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccinit.attest.sample_device", None)
    assert detect_platform(ASKED).devices == ()


def test_device_without_an_attester_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        make_device_attesters(("nvidia",))
    assert refused.value.reason == "attest.device"


def test_r19_module_is_listed_for_test_images_alone() -> None:
    listed = read_listed(ROOT / "rootfs-builder/mkosi/test-only.list")
    assert "ccinit.attest.sample_device" in {entry.name for entry in listed}
