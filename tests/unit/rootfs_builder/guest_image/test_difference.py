"""A forced difference is named by the place where it was forced, whatever it changes around it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from measured_boot.image.cpio import regular_file
from rootfs_builder.guest_image.difference import explain_bytes, explain_file, explain_folders
from tests.fakes.published.erofs_images import erofs_image, open_erofs
from tests.fakes.published.pe_images import FakePe
from tests.unit.rootfs_builder.guest_image.image_parts import disk, initrd

FILES = {"usr/bin/crun": "755:elf", "usr/lib/ccinit/main.pyc": "0123456789abcdefCODE"}
ROOT = erofs_image(FILES)
OTHER_ROOT = erofs_image({**FILES, "usr/bin/crun": "755:elg"})


def uki(**sections: bytes) -> bytes:
    contents = {"cmdline": b"quiet", "initrd": initrd(root=ROOT), **sections}
    return FakePe(sections={f".{name}": data for name, data in contents.items()}).to_bytes()


def changed(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


CASES: dict[str, tuple[str, bytes, bytes, str]] = {
    "text": ("a.direct.cmdline", b"quiet a=1", b"quiet a=2", "line 1: '1' and '2'"),
    "bytes": ("a.vmlinuz", b"\0" * 9 + b"a", b"\0" * 9 + b"b", "byte 9: 61 and 62"),
    "length": ("a.vmlinuz", b"\0" * 9, b"\0" * 10, "9 bytes and 10, the same up to there"),
    "json": (
        "a.json",
        b'{"files": {"x": [1, 2]}, "z": 1}',
        b'{"files": {"x": [1, 3]}, "z": 2}',
        "member /files/x/1: 2 and 3",
    ),
    "json of other form": ("a.json", b'{"a": 1}', b'{"a": 1, "b": 2}', "member /b: null and 2"),
    "json by spaces": ("a.json", b'{"a": 1}', b'{"a":1}', "spaces only"),
    "file of the root": (
        "a.root.erofs",
        disk(ROOT),
        disk(OTHER_ROOT),
        "erofs file usr/bin/crun: line 1: 'f' and 'g'",
    ),
    "mode in the root": (
        "a.root.erofs",
        disk(ROOT),
        disk(erofs_image({**FILES, "usr/bin/crun": "644:elf"})),
        "erofs file usr/bin/crun: mode 100755 and 100644",
    ),
    "file too many": (
        "a.root.erofs",
        disk(ROOT),
        disk(erofs_image({**FILES, "etc/x": ""})),
        "erofs file etc/x: only in the second",
    ),
    "bytecode of another date": (
        "a.root.erofs",
        disk(ROOT),
        disk(erofs_image({**FILES, "usr/lib/ccinit/main.pyc": "0123456789abcdeXCODE"})),
        (
            "erofs file usr/lib/ccinit/main.pyc: header of the bytecode: "
            f"{b'0123456789abcdef'.hex()} and {b'0123456789abcdeX'.hex()}"
        ),
    ),
    "date in the superblock": (
        "a.root.erofs",
        disk(ROOT),
        disk(erofs_image(FILES, build_time=7)),
        "erofs superblock, build time: 0 and 7",
    ),
    "layout": (
        "a.root.erofs",
        disk(erofs_image(FILES, filler=b"\0a")),
        disk(erofs_image(FILES, filler=b"\0b")),
        (
            f"the same files in another erofs layout: byte {4096 + len(json.dumps(FILES)) + 2}: "
            "61 00 00 00 00 00 00 00 and 62 00 00 00 00 00 00 00"
        ),
    ),
    "hash tree": (
        "a.verity",
        disk(ROOT),
        changed(disk(ROOT), len(ROOT) + 5),
        "hash tree: byte 5: ",
    ),
    "cpio member": (
        "a.direct.initrd",
        initrd(more=(regular_file("modules/order", b"loop.ko\n"),)),
        initrd(more=(regular_file("modules/order", b"dm.ko\n"),)),
        "cpio member modules/order: line 1: 'loop.ko\\n' and 'dm.ko\\n'",
    ),
    "mode of a cpio member": (
        "a.direct.initrd",
        initrd(more=(regular_file("init", b"", 0o755),)),
        initrd(more=(regular_file("init", b"", 0o644),)),
        f"cpio member init: mode {0o100755} and {0o100644}",
    ),
    "order of cpio members": (
        "a.direct.initrd",
        initrd(more=(regular_file("a", b""), regular_file("b", b""))),
        initrd(more=(regular_file("b", b""), regular_file("a", b""))),
        "cpio member 5: a and b",
    ),
    "packing": (
        "a.direct.initrd",
        initrd(level=1),
        initrd(level=19),
        "the same cpio members, packed otherwise: ",
    ),
    "section": (
        "a.efi",
        uki(),
        uki(cmdline=b"quieT"),
        "section .cmdline: line 1: 't' and 'T'",
    ),
    "file of the root in the initrd of a UKI": (
        "a.efi",
        uki(),
        uki(initrd=initrd(root=OTHER_ROOT)),
        "section .initrd: cpio member root.erofs: erofs file usr/bin/crun: line 1: 'f' and 'g'",
    ),
    "sections": ("a.efi", uki(), uki(sbat=b"x"), "sections .cmdline .initrd and .cmdline .initrd "),
    "checksum of a UKI": (
        "a.efi",
        uki(),
        FakePe(
            sections={".cmdline": b"quiet", ".initrd": initrd(root=ROOT)}, checksum=1
        ).to_bytes(),
        "headers or padding: byte ",
    ),
    "damaged": ("a.efi", b"MZ\0a", b"MZ\0b", "byte 3: 61 and 62 (cannot be opened: "),
}


@pytest.mark.parametrize("case", CASES)
def test_forced_difference_is_named_where_it_was_forced(case: str) -> None:
    name, first, second, words = CASES[case]
    assert first != second
    assert explain_file(name, first, second, open_erofs).startswith(words)


def write(folder: Path, **changes: bytes) -> Path:
    """A small published folder, in which each file holds what it is made of."""
    folder.mkdir()
    root = changes.get("root", ROOT)
    contents = {
        "ccinit-prod.direct.cmdline": f"quiet ccinit.root={hash(root):x}".encode(),
        "ccinit-prod.root.erofs": disk(root),
        "ccinit-prod.efi": uki(initrd=initrd(root=root)),
        "ccinit-prod.json": json.dumps({"root_hash": root[-40:].hex()}).encode(),
        "SHA256SUMS": repr(hash(root)).encode(),
        "builder.pub": changes.get("key", b"key"),
        "provenance.dsse.json": changes.get("key", b"key"),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


def test_folders_that_differ_by_the_builders_key_only_are_the_same(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", key=b"other")
    assert explain_folders(first, second, open_erofs) == ""


def test_cause_is_named_before_its_effects(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", root=OTHER_ROOT)
    assert explain_folders(first, second, open_erofs) == (
        "ccinit-prod.root.erofs: erofs file usr/bin/crun: line 1: 'f' and 'g'"
    )


def test_build_id_is_named_only_if_nothing_else_differs() -> None:
    build_id = "usr/lib/ccinit/build_id"
    roots = [disk(erofs_image({**FILES, build_id: text, "usr/z": text})) for text in ("a", "b")]
    words = explain_file("a.root.erofs", roots[0], roots[1], open_erofs)
    assert words == "erofs file usr/z: line 1: 'a' and 'b'"
    roots = [disk(erofs_image({**FILES, build_id: text, "usr/z": "a"})) for text in ("a", "b")]
    words = explain_file("a.root.erofs", roots[0], roots[1], open_erofs)
    assert words == f"erofs file {build_id}: line 1: 'a' and 'b'"


@pytest.mark.parametrize("which", ["first", "second"])
def test_file_of_one_folder_alone_is_named(tmp_path: Path, which: str) -> None:
    folders = {"first": write(tmp_path / "a"), "second": write(tmp_path / "b")}
    (folders[which] / "extra").write_bytes(b"")
    first, second = folders.values()
    assert explain_folders(first, second, open_erofs) == f"extra: only in the {which} folder"


@pytest.mark.parametrize("edit", [lambda data: data[:-1], lambda data: data + b"x"])
def test_cut_text_is_named_by_length(edit: Callable[[bytes], bytes]) -> None:
    assert explain_bytes(b"text\n", edit(b"text\n")).startswith("5 bytes and ")


def test_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text("{}")
    folders = (tmp_path / "first", tmp_path / "second")
    assert explain_folders(*folders, open_erofs) == ""
    (tmp_path / "second/a.json").unlink()
    os.mkfifo(tmp_path / "second/a.json")
    with pytest.raises(ConfigError, match=r"second/a\.json is not a file") as error:
        explain_folders(*folders, open_erofs)
    assert error.value.reason == "image.file"
