"""Say in words where two builds of an image differ first.

Builds of the same inputs have to be the same bytes. If they are not, the first differing byte of a
compressed file tells nothing. So each published file is opened layer by layer (UKI section, cpio
member, file of the erofs, hash tree) down to what differs inside. Files that go into others come
first, so that a cause is named before its effects.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ccinit.errors import CcinitError, ConfigError
from measured_boot.image.pe import PeImage, parse_pe
from measured_boot.published.dsse import ENVELOPE, PUBLIC_KEY
from rootfs_builder.guest_image.cpio_reader import FIELDS, CpioMember, read_initrd
from rootfs_builder.guest_image.erofs_reader import ErofsFile, data_bytes, read_superblock
from rootfs_builder.guest_image.python_modules import SITE

ErofsOpener = Callable[[bytes], Mapping[str, ErofsFile]]

BUILDERS_OWN: Final = frozenset({PUBLIC_KEY, ENVELOPE})
"""Files that differ between builders by their key."""

_CAUSES_FIRST: Final = (
    # The command line names the root's hash, the initrd holds the line, a UKI holds most.
    *(".vmlinuz", ".root.erofs", ".cmdline", ".initrd", ".efi", ".verity", ".json"),
)
_ROOT_MEMBER: Final = "root.erofs"
_DIGESTS: Final = frozenset({f"{SITE}/build_id".lstrip("/")})
"""Files of the root that follow from all others."""
_SHOWN_BYTES: Final = 8
_BYTECODE_HEADER_BYTES: Final = 16


def explain_folders(first: Path, second: Path, open_erofs: ErofsOpener) -> str:
    """Return the first difference of two folders of published files; empty if there is none.

    Args:
        first: one folder.
        second: the other.
        open_erofs: gives the files of an erofs image.

    Raises:
        ConfigError: `image.missing`, a folder is empty; `image.file`, it holds what is no file.
        OSError: it cannot be read.
    """
    names = [{path.name for path in folder.iterdir()} - BUILDERS_OWN for folder in (first, second)]
    for folder, found in zip((first, second), names, strict=True):
        if not found:
            raise ConfigError("image.missing", f"{folder} holds nothing that was published")
    if alone := sorted(names[0] ^ names[1]):
        return f"{alone[0]}: only in the {'first' if alone[0] in names[0] else 'second'} folder"
    for name in sorted(names[0], key=_rank):
        for path in (first / name, second / name):
            if not path.is_file():  # a pipe would not end
                raise ConfigError("image.file", f"{path} is not a file")
        one, two = (first / name).read_bytes(), (second / name).read_bytes()
        if one != two:
            return f"{name}: {explain_file(name, one, two, open_erofs)}"
    return ""


def explain_file(name: str, first: bytes, second: bytes, open_erofs: ErofsOpener) -> str:
    """Return where two versions of one published file differ first; they must differ."""
    try:
        if name.endswith((".erofs", ".verity")):
            return _explain_disk(first, second, open_erofs)
        if name.endswith(".efi"):
            return _explain_uki(first, second, open_erofs)
        if name.endswith(".initrd"):
            return _explain_initrd(first, second, open_erofs)
        if name.endswith(".json"):
            return _explain_json(json.loads(first), json.loads(second)) or "spaces only"
    except (CcinitError, ValueError, RecursionError) as error:
        return f"{explain_bytes(first, second)} (cannot be opened: {error})"
    return explain_bytes(first, second)


def explain_bytes(first: bytes, second: bytes) -> str:
    """Return the offset of the first byte that differs, with what stands there; text by line."""
    shorter = min(len(first), len(second))
    offset = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    if offset == shorter:
        return f"{len(first)} bytes and {len(second)}, the same up to there"
    line = first.count(b"\n", 0, offset) + 1
    where = f"line {line}" if _is_text(first) and _is_text(second) else f"byte {offset}"
    return f"{where}: {_show(first, offset)} and {_show(second, offset)}"


def _rank(name: str) -> tuple[int, str]:
    kinds = [kind for kind, suffix in enumerate(_CAUSES_FIRST) if name.endswith(suffix)]
    return (kinds[0] if kinds else len(_CAUSES_FIRST), name)


def _explain_disk(first: bytes, second: bytes, open_erofs: ErofsOpener) -> str:
    sizes = data_bytes(first), data_bytes(second)
    one, two = first[: sizes[0]], second[: sizes[1]]
    if one != two:
        return _explain_erofs(one, two, open_erofs)
    return f"hash tree: {explain_bytes(first[sizes[0] :], second[sizes[1] :])}"


def _explain_erofs(first: bytes, second: bytes, open_erofs: ErofsOpener) -> str:
    one, two = open_erofs(first), open_erofs(second)
    for path in sorted(one.keys() | two.keys(), key=lambda path: (path in _DIGESTS, path)):
        if path not in one or path not in two:
            return f"erofs file {path}: only in the {'first' if path in one else 'second'}"
        if one[path] != two[path]:
            return f"erofs file {path}: {_explain_inode(path, one[path], two[path])}"
    fields = read_superblock(first), read_superblock(second)
    for name, value in fields[0].items():
        # A checksum only follows from what differs after it.
        if name != "checksum" and value != fields[1][name]:
            return f"erofs superblock, {name}: {value!r} and {fields[1][name]!r}"
    return f"the same files in another erofs layout: {explain_bytes(first, second)}"


def _explain_inode(path: str, first: ErofsFile, second: ErofsFile) -> str:
    if first.mode != second.mode:
        return f"mode {first.mode:o} and {second.mode:o}"
    if first.owner != second.owner:
        return f"owner {first.owner} and {second.owner}"
    if first.data != second.data:
        return _explain_content(path, first.data, second.data)
    return f"time {first.modified} and {second.modified}"


def _explain_uki(first: bytes, second: bytes, open_erofs: ErofsOpener) -> str:
    one, two = parse_pe(first), parse_pe(second)
    names = [[section.name for section in image.sections] for image in (one, two)]
    if names[0] != names[1]:
        return f"sections {' '.join(names[0])} and {' '.join(names[1])}"
    for name in names[0]:
        contents = [_read_section(image, name) for image in (one, two)]
        if contents[0] == contents[1]:
            continue
        if name == ".initrd":
            return f"section {name}: {_explain_initrd(contents[0], contents[1], open_erofs)}"
        return f"section {name}: {explain_bytes(contents[0], contents[1])}"
    return f"headers or padding: {explain_bytes(first, second)}"


def _read_section(image: PeImage, name: str) -> bytes:
    """Return what of a section lies in the file; some have less there than in memory."""
    section = next(section for section in image.sections if section.name == name)
    length = min(section.virtual_size, section.raw_size)
    return image.data[section.raw_offset : section.raw_offset + length]


def _explain_initrd(first: bytes, second: bytes, open_erofs: ErofsOpener) -> str:
    one, two = read_initrd(first), read_initrd(second)
    for number, (member, other) in enumerate(zip(one, two, strict=False), start=1):
        if member.name != other.name:
            return f"cpio member {number}: {member.name} and {other.name}"
        if member != other:
            return f"cpio member {member.name}: {_explain_member(member, other, open_erofs)}"
    if len(one) != len(two):
        return f"{len(one)} cpio members and {len(two)}"
    return f"the same cpio members, packed otherwise: {explain_bytes(first, second)}"


def _explain_member(first: CpioMember, second: CpioMember, open_erofs: ErofsOpener) -> str:
    if first.data != second.data:
        if first.name == _ROOT_MEMBER:
            return _explain_erofs(first.data, second.data, open_erofs)
        return _explain_content(first.name, first.data, second.data)
    pairs = zip(FIELDS, first.fields, second.fields, strict=True)
    return next(f"{name} {a} and {b}" for name, a, b in pairs if a != b)


def _explain_content(path: str, first: bytes, second: bytes) -> str:
    header = slice(_BYTECODE_HEADER_BYTES)
    if path.endswith(".pyc") and first[header] != second[header]:
        return f"header of the bytecode: {first[header].hex()} and {second[header].hex()}"
    return explain_bytes(first, second)


def _explain_json(first: Any, second: Any, path: str = "") -> str:
    if isinstance(first, dict) and isinstance(second, dict):
        pairs = {
            key: (first.get(key), second.get(key)) for key in sorted(first.keys() | second.keys())
        }
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = {str(i): pair for i, pair in enumerate(zip(first, second, strict=True))}
    else:
        return (
            ""
            if first == second
            else f"member {path}: {_abbreviate(first)} and {_abbreviate(second)}"
        )
    explained = (_explain_json(*pair, f"{path}/{key}") for key, pair in pairs.items())
    return next(filter(None, explained), "")


def _abbreviate(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _is_text(data: bytes) -> bool:
    return data.isascii() and b"\0" not in data


def _show(data: bytes, offset: int) -> str:
    shown = data[offset : offset + _SHOWN_BYTES]
    return repr(shown.decode("ascii")) if _is_text(data) else shown.hex(" ")
