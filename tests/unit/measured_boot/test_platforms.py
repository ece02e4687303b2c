import json
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from measured_boot.platforms import (
    PLATFORMS,
    Boot,
    Platform,
    Technology,
    find_named_platform,
    find_platform,
)

UKI, DIRECT = (row for row in PLATFORMS if row.technology is Technology.TPM)
SNP = find_named_platform("snp_direct_qemu-10")
VECTORS = Path("tests/vectors/measured_boot")


def test_find_platform_without_name_takes_the_one_that_fits() -> None:
    assert find_platform(Boot.UKI, UKI.stub) is UKI
    assert find_platform(Boot.DIRECT, None) is DIRECT


def test_find_platform_by_name() -> None:
    assert find_platform(Boot.UKI, UKI.stub, UKI.name) is UKI


@pytest.mark.parametrize(
    ("boot", "stub", "name", "reason"),
    [
        (Boot.UKI, "257.14-1", None, "platform.unknown"),
        (Boot.UKI, None, None, "platform.unknown"),
        (Boot.UKI, UKI.stub, "ovmf-2099", "platform.unknown"),
        (Boot.UKI, "257.14-1", UKI.name, "platform.mismatch"),
        (Boot.UKI, UKI.stub, DIRECT.name, "platform.mismatch"),
        (Boot.DIRECT, None, UKI.name, "platform.mismatch"),
        (Boot.UKI, UKI.stub, SNP.name, "platform.mismatch"),
    ],
)
def test_find_platform_refuses(boot: Boot, stub: str | None, name: str | None, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_platform(boot, stub, name)
    assert error.value.reason == reason


def test_find_platform_unknown_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        find_platform(Boot.UKI, "258")
    for platform in PLATFORMS:
        assert platform.name in error.value.detail


def test_find_named_platform_finds_each() -> None:
    assert [find_named_platform(row.name) for row in PLATFORMS] == list(PLATFORMS)


def test_every_technology_has_a_platform_and_only_booted_ones_are_compared() -> None:
    assert {row.technology for row in PLATFORMS} == set(Technology)
    assert [row for row in PLATFORMS if row.is_compared] == [UKI, DIRECT]


def test_platform_names_are_different() -> None:
    assert len({platform.name for platform in PLATFORMS}) == len(PLATFORMS)


@pytest.mark.parametrize(("vector", "platform"), [("uki", UKI), ("direct", DIRECT)])
def test_platform_is_the_recorded_one(vector: str, platform: Platform) -> None:
    recorded = json.loads((VECTORS / f"{vector}.json").read_text())
    firmware = next(row[3] for row in recorded["events"] if row[:2] == [0, 8])
    assert platform.firmware
    version = platform.firmware.version
    assert bytes.fromhex(firmware).decode("utf-16-le").rstrip("\0") == version
    mark = recorded.get("contents", {}).get(".sdmagic", "")
    assert (platform.stub or "") in bytes.fromhex(mark).decode()


def test_find_platform_says_which_stub_the_named_one_is_for() -> None:
    with pytest.raises(ConfigError, match=f"stub {UKI.stub}, the image has 257.14-1"):
        find_platform(Boot.UKI, "257.14-1", UKI.name)
