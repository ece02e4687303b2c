"""The initrd is common part plus boot path, in the order that the kernel and stage 0 read."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.init.stage0 import EXPECTED_LINE, MODULE_ORDER, PLATFORM_DRIVERS, ROOT_IMAGE
from rootfs_builder.guest_image.kernel_modules import ModuleFile
from rootfs_builder.guest_image.python_modules import STAGE0_ENTRIES
from rootfs_builder.guest_image.root_tree import RootTree, TreeEntry
from rootfs_builder.guest_image.stage0_archive import (
    compression_key,
    encode_stage0,
    join_initrd,
)
from rootfs_builder.packages.lock import LockedPackage
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.tools_tree import ToolsTree
from tests.unit.measured_boot.newc_members import parse

INTERPRETER = RootTree(
    entries={
        "lib64": TreeEntry(link="usr/lib64"),
        "usr/bin/python3.13": TreeEntry(data=b"elf", executable=True),
    }
)
BRD = ModuleFile(path="kernel/brd.ko.xz", parameters="rd_nr=4")
TSM = ModuleFile(path="kernel/tsm.ko.xz")
ORDERS = {"": ((BRD,),), **dict.fromkeys(PLATFORM_DRIVERS, ((TSM,),))}
CONTENTS = {BRD: b"module", TSM: b"another"}


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    return {name: (fields[1], data) for name, fields, data in parse(archive)}


def test_common_archive_has_what_stage0_opens() -> None:
    found = members(encode_stage0(INTERPRETER, ORDERS, CONTENTS))
    assert found[MODULE_ORDER.lstrip("/")][1] == b"brd.ko rd_nr=4\n"
    for driver in PLATFORM_DRIVERS:
        assert found[f"{MODULE_ORDER}.{driver}".lstrip("/")][1] == b"tsm.ko\n"
    assert found["modules/brd.ko"][1] == b"module"
    assert found["modules/tsm.ko"][1] == b"another"
    assert found["dev/null"][0] == 0o020666
    assert found["dev/urandom"][0] == 0o020444  # else no Python starts before there is a seed
    assert found["usr/bin/python3.13"][0] == 0o100755
    assert {"dev", "proc", "sys"} <= found.keys()
    assert "dev/console" not in found


def test_init_is_one_call_under_the_isolated_interpreter() -> None:
    mode, data = members(encode_stage0(INTERPRETER, ORDERS, CONTENTS))["init"]
    lines = data.decode().splitlines()
    assert mode == 0o100755
    assert lines[0] == "#!/usr/bin/python3.13 -IS"
    assert lines[-1] == "main()"


def test_init_imports_what_the_archive_is_made_of() -> None:
    _, data = members(encode_stage0(INTERPRETER, ORDERS, CONTENTS))["init"]
    imported = {node.module for node in ast.parse(data).body if isinstance(node, ast.ImportFrom)}
    assert imported == set(STAGE0_ENTRIES)


def test_initrd_of_a_disk_boot_holds_its_line_and_no_root() -> None:
    initrd = join_initrd(b"PACK", "line of this path")
    assert initrd.endswith(b"PACK")
    found = members(initrd.removesuffix(b"PACK"))
    assert found.keys() == {EXPECTED_LINE.lstrip("/"), "TRAILER!!!"}
    assert found[EXPECTED_LINE.lstrip("/")][1] == b"line of this path"


def test_initrd_of_a_ram_boot_holds_the_root_too() -> None:
    found = members(join_initrd(b"", "line", b"erofs"))
    assert found[ROOT_IMAGE.lstrip("/")][1] == b"erofs"


def test_compressed_part_begins_at_a_multiple_of_four() -> None:
    for length in range(5):
        assert len(join_initrd(b"", "x" * length)) % 4 == 0


ZSTD = LockedPackage(name="zstd", version="1.5.7", sha256="1" * 64)
QUARRY = Quarry(tree=ToolsTree(Path("tree")), packages=(ZSTD,), kernel_release="6.12")


@pytest.mark.parametrize("change", [{"version": "1.5.8"}, {"sha256": "2" * 64}])
def test_packed_archive_of_another_zstd_is_not_taken(change: dict[str, str]) -> None:
    other = replace(QUARRY, packages=(replace(ZSTD, **change),))
    assert compression_key(QUARRY, b"a") == compression_key(replace(QUARRY), b"a")
    assert compression_key(QUARRY, b"a") != compression_key(other, b"a")
    assert compression_key(QUARRY, b"a") != compression_key(QUARRY, b"b")
