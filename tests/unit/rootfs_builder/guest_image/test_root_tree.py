"""The root has what its rules put there, and nothing else."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.file_list import Listed
from rootfs_builder.guest_image.python_modules import GuestModule
from rootfs_builder.guest_image.root_tree import (
    LIBRARIES,
    RootTree,
    TreeEntry,
    collect_libraries,
    folders_of,
    plan_interpreter,
    plan_root,
    write_tree,
)
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.tools_tree import ToolsTree
from tests.unit.rootfs_builder.elf_files import elf

LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
BUILT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def quarry(tmp_path: Path) -> Quarry:
    """A package set with two programs, two libraries, the loader, and much that no guest needs."""
    root = tmp_path / "quarry"
    libraries = root / LIBRARIES
    libraries.mkdir(parents=True)
    (root / "usr/bin").mkdir()
    (root / "usr/sbin").mkdir()
    for program in ("usr/bin/python3.13", "usr/sbin/mke2fs"):
        (root / program).write_bytes(elf(interpreter=LOADER))
    (root / "usr/bin/bash").write_bytes(elf(interpreter=LOADER))
    library = elf(interpreter=b"", needed=False)
    (libraries / "libone.so.1.2.3").write_bytes(library)
    (libraries / "libone.so.1").symlink_to("libone.so.1.2.3")
    (libraries / "libtwo.so.2").write_bytes(library)
    (libraries / "libthree.so.3").write_bytes(library)
    (libraries / "ld-linux-x86-64.so.2").write_bytes(library)
    return Quarry(tree=ToolsTree(root), packages=(), kernel_release="6.12")


def module(tmp_path: Path) -> GuestModule:
    file = tmp_path / "main.pyc"
    file.write_bytes(b"code")
    return GuestModule(name="__main__", target="/usr/lib/ccinit/__main__.pyc", file=file)


def root_of(quarry: Quarry, tmp_path: Path) -> RootTree:
    programs = [
        Listed(name="usr/bin/python3.13", options=(), reason="test"),
        Listed(name="usr/bin/mkfs.ext4", options=("usr/sbin/mke2fs",), reason="test"),
    ]
    return plan_root(quarry, programs, [module(tmp_path)], BUILT)


def test_root_holds_listed_programs_their_libraries_and_modules(
    quarry: Quarry, tmp_path: Path
) -> None:
    files = {path for path, entry in root_of(quarry, tmp_path).entries.items() if not entry.link}
    assert {path for path in files if not path.startswith("etc/")} == {
        "usr/bin/mkfs.ext4",
        "usr/bin/python3.13",
        "usr/lib/ccinit/__main__.pyc",
        "usr/lib/ccinit/build_id",
        "usr/lib/ccinit/build_time",
        f"{LIBRARIES}/ld-linux-x86-64.so.2",
        f"{LIBRARIES}/libone.so.1",
        f"{LIBRARIES}/libtwo.so.2",
    }


def test_only_programs_and_the_loader_are_executable(quarry: Quarry, tmp_path: Path) -> None:
    entries = root_of(quarry, tmp_path).entries
    assert {path for path, entry in entries.items() if entry.executable} == {
        "usr/bin/mkfs.ext4",
        "usr/bin/python3.13",
        f"{LIBRARIES}/ld-linux-x86-64.so.2",
    }


def test_root_says_when_its_lock_was_made(quarry: Quarry, tmp_path: Path) -> None:
    entry = root_of(quarry, tmp_path).entries["usr/lib/ccinit/build_time"]
    assert entry.data == b"1767225600\n"


def test_build_id_stands_for_everything_in_the_tree(quarry: Quarry, tmp_path: Path) -> None:
    first = root_of(quarry, tmp_path).entries["usr/lib/ccinit/build_id"].data
    assert len(bytes.fromhex(first.decode().strip())) == 16
    assert root_of(quarry, tmp_path).entries["usr/lib/ccinit/build_id"].data == first
    library = quarry.tree.path / LIBRARIES / "libtwo.so.2"
    library.write_bytes(library.read_bytes() + b"x")
    assert root_of(quarry, tmp_path).entries["usr/lib/ccinit/build_id"].data != first


def test_resolver_and_loader_are_links_that_lead_somewhere(quarry: Quarry, tmp_path: Path) -> None:
    entries = root_of(quarry, tmp_path).entries
    assert entries["etc/resolv.conf"].link == "/run/ccinit/resolv.conf"
    target = Path("usr/lib64") / entries["usr/lib64/ld-linux-x86-64.so.2"].link
    assert str(target) == "usr/lib64/../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def test_interpreter_tree_has_no_configuration(quarry: Quarry, tmp_path: Path) -> None:
    paths = set(plan_interpreter(quarry, [module(tmp_path)]).entries)
    assert {"usr/bin/python3.13", "lib64", f"{LIBRARIES}/libtwo.so.2"} <= paths
    assert not any(path.startswith("etc") for path in paths)


def test_library_that_is_not_in_the_quarry_is_refused(quarry: Quarry, tmp_path: Path) -> None:
    (quarry.tree.path / LIBRARIES / "libtwo.so.2").unlink()
    with pytest.raises(ConfigError) as error:
        root_of(quarry, tmp_path)
    assert error.value.reason == "quarry.file"


def test_program_for_another_loader_is_refused(quarry: Quarry) -> None:
    entries = {"usr/bin/x": TreeEntry(data=elf(interpreter=b"/lib/ld-musl.so\0"), executable=True)}
    with pytest.raises(ConfigError) as error:
        collect_libraries(quarry, entries)
    assert error.value.reason == "root.loader"


def test_folders_come_before_their_contents() -> None:
    tree = RootTree(entries={"a/b/c": TreeEntry()}, empty_folders=("proc",))
    assert folders_of(tree) == ("a", "a/b", "proc")


def test_written_tree_has_the_planned_modes_and_replaces_an_old_one(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    (target / "left-over").mkdir(parents=True)
    tree = RootTree(
        entries={
            "bin/x": TreeEntry(data=b"x", executable=True),
            "etc/y": TreeEntry(data=b"y"),
            "lib": TreeEntry(link="usr/lib"),
        },
        empty_folders=("tmp",),
    )
    write_tree(tree, target)
    modes = {
        str(path.relative_to(target)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in target.rglob("*")
        if not path.is_symlink()
    }
    assert modes == {
        "bin": "0o755",
        "bin/x": "0o755",
        "etc": "0o755",
        "etc/y": "0o644",
        "tmp": "0o755",
    }
    assert (target / "lib").readlink() == Path("usr/lib")
