"""Scratch disks whose tags no guest could keep are refused before a guest asks for its keys."""

import re
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.formats.disk.integrity import count_meta_bytes
from ccinit.formats.initdata.document import Initdata
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.formats.pod.scratch_tags import RAM_DEVICES
from ccinit.formats.pod.volume import MAX_DISK_BYTES
from tests.fakes.documents.guest import CONFIG, POD

GIB = 1 << 30
MODULES = Path("rootfs-builder/mkosi/modules.list")


def pod_with(sizes: list[int], more: str = "") -> str:
    volumes = (
        f'[[volume]]\nname = "s{number}"\nkind = "scratch"\nsize_bytes = {size}\n{more}\n'
        for number, size in enumerate(sizes)
    )
    return POD.partition("[[volume]]")[0] + "".join(volumes)


def refused(sizes: list[int], budget_bytes: int | None = None, more: str = "") -> str:
    """Return the words in which the parser of the whole document refuses; empty if it takes."""
    limits = "" if budget_bytes is None else f"\n[limits]\nscratch_tags_bytes = {budget_bytes}\n"
    document = Initdata(
        algorithm="sha256", config_toml=CONFIG + limits, pod_toml=pod_with(sizes, more)
    )
    try:
        parse_guest_files(document)
    except FormatError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "sizes", [[1 << 20], [GIB], [32 * GIB], [1024 * GIB], [GIB + 4096, 7 * GIB - 4096], [GIB] * 4]
)
def test_all_tags_together_are_held_by_the_budget(sizes: list[int]) -> None:
    needed = sum(map(count_meta_bytes, sizes))
    assert refused(sizes, needed) == ""
    said = refused(sizes, needed - 1)
    assert said.startswith(f"pod.volume.size_bytes: expected at most {needed - 1} bytes")
    assert f"found {needed}: " in said


@pytest.mark.parametrize("sizes", [[32 * GIB], [8 * GIB] * 4])
def test_budget_that_nobody_has_set_is_enough_for_32_gib(sizes: list[int]) -> None:
    assert sum(map(count_meta_bytes, sizes)) <= Limits().scratch_tags_bytes
    assert refused(sizes) == ""
    sizes[0] += GIB
    assert refused(sizes).startswith("pod.volume.size_bytes: ")


def test_each_disk_with_tags_in_memory_needs_a_memory_device() -> None:
    parse_pod_manifest(pod_with([GIB] * RAM_DEVICES))
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(pod_with([GIB] * (RAM_DEVICES + 1)))
    assert caught.value.reason == "pod.volume.profile"
    assert caught.value.detail.startswith(
        "expected at most 4 scratch disks with tags in memory, found 5:"
    )


@pytest.mark.parametrize("profile", ["aead-disk", "crypt"])
def test_tags_that_are_not_in_memory_count_for_nothing(profile: str) -> None:
    assert refused([1024 * GIB] * 5, 1 << 20, f'profile = "{profile}"') == ""


def test_memory_devices_are_as_many_and_as_large_as_the_image_has_the_kernel_make() -> None:
    (options,) = re.findall(r"^brd rd_nr=(\d+) rd_size=(\d+)", MODULES.read_text(), re.MULTILINE)
    count, size_kib = map(int, options)
    assert count == RAM_DEVICES
    assert count_meta_bytes(MAX_DISK_BYTES) <= size_kib << 10
