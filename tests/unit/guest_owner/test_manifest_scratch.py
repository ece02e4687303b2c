"""Scratch disks whose tags no guest would keep: `manifest check` says what the guest would."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from ccinit.formats.initdata.guest_config import Limits, parse_guest_config
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.formats.pod.volume import ScratchProfile
from ccinit.kernel.block import BlockDevice
from ccinit.unlock.integrity import count_meta_bytes
from ccinit.unlock.scratch import ScratchRequest, plan_scratch
from guest_owner.manifest_scratch import find_excess_tags
from tests.fakes.documents.guest import CONFIG
from tests.unit.guest_owner.command_line import run

GIB = 1 << 30
POD = f"""
version = 1
name = "shop"
[[image]]
name = "shop"
reference = "registry.example/shop@sha256:{"ab" * 32}"
ca = "-----BEGIN CERTIFICATE-----"
[[container]]
name = "shop"
image = "shop"
"""


def pod_with(sizes: list[int], more: str = "") -> str:
    volumes = (
        f'[[volume]]\nname = "s{number}"\nkind = "scratch"\nsize_bytes = {size}\n{more}\n'
        for number, size in enumerate(sizes)
    )
    return POD + "".join(volumes)


def config_with(budget_bytes: int) -> str:
    return f"{CONFIG}\n[limits]\nscratch_tags_bytes = {budget_bytes}\n"


def found(sizes: list[int], budget_bytes: int, more: str = "") -> list[str]:
    """Reasons that the owner is told."""
    config = parse_guest_config(config_with(budget_bytes))
    pod = parse_pod_manifest(pod_with(sizes, more))
    return [reason for reason, _ in find_excess_tags(pod, config)]


def refused(sizes: list[int], budget_bytes: int) -> list[str]:
    """Reason that a guest with those disks gives."""
    requests = [
        ScratchRequest(
            name="s",
            disk=BlockDevice(
                name="vdb", number="1:1", size_bytes=size, read_only=False, serial="", holders=()
            ),
            target="/t",
            profile=ScratchProfile.AEAD_RAM,
        )
        for size in sizes
    ]
    try:
        plan_scratch(requests, budget_bytes=budget_bytes)
    except ConfigError as error:
        return [error.reason]
    return []


@pytest.mark.parametrize(
    "sizes", [[1 << 20], [GIB], [32 * GIB], [1024 * GIB], [GIB + 4096, 7 * GIB - 4096], [GIB] * 4]
)
def test_owner_counts_tags_as_the_guest_does(sizes: list[int]) -> None:
    needed = sum(map(count_meta_bytes, sizes))
    assert found(sizes, needed) == refused(sizes, needed) == []
    assert found(sizes, needed - 1) == refused(sizes, needed - 1) == ["scratch.budget"]


@pytest.mark.parametrize("sizes", [[32 * GIB], [8 * GIB] * 4])
def test_budget_that_nobody_has_set_is_enough_for_32_gib(sizes: list[int]) -> None:
    budget = Limits().scratch_tags_bytes
    assert found(sizes, budget) == refused(sizes, budget) == []
    sizes[0] += GIB
    assert found(sizes, budget) == refused(sizes, budget) == ["scratch.budget"]


def test_owner_counts_disks_as_the_guest_does() -> None:
    assert found([GIB] * 5, 4 * GIB) == refused([GIB] * 5, 4 * GIB) == ["scratch.count"]


@pytest.mark.parametrize("profile", ["aead-disk", "crypt"])
def test_tags_that_are_not_in_memory_count_for_nothing(profile: str) -> None:
    assert found([1024 * GIB] * 5, 1 << 20, f'profile = "{profile}"') == []


def test_check_says_so_before_a_guest_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod, config = tmp_path / "pod.toml", tmp_path / "ccinit.toml"
    pod.write_text(pod_with([8 * GIB] * 5))
    config.write_text(config_with(64 << 20))
    assert run("manifest", "check", pod, "--config", config) == 1
    printed = capsys.readouterr().out
    assert (
        "scratch.count   expected at most 4 scratch disks with tags in memory, found 5" in printed
    )
    assert "scratch.budget  tags of scratch disks take up to 336240640 bytes" in printed
