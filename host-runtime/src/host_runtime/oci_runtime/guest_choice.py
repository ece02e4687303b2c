"""Which guest a bundle asks for: its annotations over the operator's defaults. Pure.

The bundle is refused if one of our annotations is unknown, is not allowed by the operator, or
exceeds what is allowed: that a guest differs from what was asked for would be noticed late.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import decode_base64
from ccinit.formats.initdata.document import (
    MAX_COMPRESSED_BYTES,
    decompress_document,
    parse_initdata,
)
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.volume import ScratchVolume, select_kind
from host_runtime.oci_runtime.operator_config import (
    Allowance,
    BootImage,
    Choice,
    OperatorConfig,
)

PREFIX: Final = "org.ccinit."
COCO_INITDATA: Final = "io.katacontainers.config.hypervisor.cc_init_data"
"""CoCo's annotation: base64 of gzip of the document, as ours."""

READ_ONLY: Final = ":ro"
_MAX_BASE64: Final = MAX_COMPRESSED_BYTES * 4 // 3 + 4
_MAX_DISKS: Final = 16
_PATH: Final = re.compile(r"/[A-Za-z0-9_./-]{1,1023}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenDisk:
    """A disk that exists already, unlike those that are made for the container."""

    path: Path
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestChoice:
    """One guest, as chosen.

    Attributes:
        document: the initdata document, or its path.
    """

    image: BootImage
    memory_mib: int
    vcpus: int
    document: bytes | Path
    disks: tuple[ChosenDisk, ...] = ()


def choose_guest(annotations: Mapping[str, str], config: OperatorConfig) -> GuestChoice:
    """Return the guest that a bundle with these annotations asks for.

    Raises:
        ConfigError: `annotation.unknown`, `annotation.denied`, `annotation.twice`,
            `annotation.initdata` (nobody names a document), `annotation.disks`,
            `annotation.folder`, `runtime.image`.
        FormatError: `annotation.initdata`, `annotation.NAME`; `initdata.…` of the gzip member.
        LimitExceededError: `annotation.NAME`, more than is allowed.
    """
    chosen = _ours(annotations, config.allow)
    allow, defaults = config.allow, config.defaults

    def choice(name: Choice, read: Callable[[str], T], default: T) -> T:
        return read(chosen[name]) if name in chosen else default

    return GuestChoice(
        image=config.image(chosen.get(Choice.IMAGE, defaults.image)),
        memory_mib=choice(Choice.MEMORY, _up_to(Choice.MEMORY, allow.memory_mib),
                          defaults.memory_mib),
        vcpus=choice(Choice.VCPUS, _up_to(Choice.VCPUS, allow.vcpus), defaults.vcpus),
        document=_choose_document(chosen, defaults.initdata, allow),
        disks=choice(Choice.DISKS, lambda text: _read_disks(text, allow), ()),
    )  # fmt: skip


def read_scratch_sizes(document: bytes) -> tuple[int, ...]:
    """Return the bytes of each scratch disk that the document's pod declares.

    It is read with the guest's parsers, so that what would stop a guest is refused with a reason.

    Raises:
        FormatError: `initdata.…`, `ccinit.…`, `pod.…`, `aa.…` or `cdh.…`.
    """
    _config, manifest = parse_guest_files(parse_initdata(document))
    return tuple(volume.size_bytes for volume in select_kind(manifest.volumes, ScratchVolume))


def _ours(annotations: Mapping[str, str], allow: Allowance) -> Mapping[Choice, str]:
    names = {f"{PREFIX}{choice}": choice for choice in Choice}
    chosen: dict[Choice, str] = {}
    for key, text in annotations.items():
        if key.startswith(PREFIX) and key not in names:
            raise ConfigError(
                "annotation.unknown", f"{key!r:.80} is not an annotation of this runtime"
            )
        choice = Choice.INITDATA if key == COCO_INITDATA else names.get(key)
        if choice is None:
            continue  # somebody else's
        if choice not in allow.choices:
            raise ConfigError(
                "annotation.denied", f"{key}: the operator's file does not allow {choice}"
            )
        if choice in chosen:
            raise ConfigError("annotation.twice", f"{key}: said twice")
        chosen[choice] = text
    return chosen


def _choose_document(
    chosen: Mapping[Choice, str], default: Path | None, allow: Allowance
) -> bytes | Path:
    if Choice.INITDATA in chosen and Choice.INITDATA_FILE in chosen:
        raise ConfigError("annotation.twice", "a document and the path of one")
    if Choice.INITDATA in chosen:
        text = chosen[Choice.INITDATA]
        if len(text) > _MAX_BASE64:
            raise LimitExceededError("annotation.initdata", f"more than {_MAX_BASE64} characters")
        return decompress_document(decode_base64(text, "annotation.initdata"))
    if Choice.INITDATA_FILE in chosen:
        return _allowed_path(chosen[Choice.INITDATA_FILE], Choice.INITDATA_FILE, allow)
    if default is None:
        raise ConfigError(
            "annotation.initdata",
            f"no document: {PREFIX}{Choice.INITDATA} or {COCO_INITDATA} has base64 of its gzip",
        )
    return default


def _up_to(name: Choice, limit: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise FormatError(f"annotation.{name}", f"{text!r:.40} is not a number")
        if int(text) > limit:
            raise LimitExceededError(
                f"annotation.{name}", f"expected at most {limit}, found {text}"
            )
        return int(text)

    return read


def _read_disks(text: str, allow: Allowance) -> tuple[ChosenDisk, ...]:
    words = text.split(",")
    if len(words) > _MAX_DISKS:
        raise LimitExceededError("annotation.disks", f"more than {_MAX_DISKS}")
    disks = tuple(
        ChosenDisk(
            path=_allowed_path(word.removesuffix(READ_ONLY), Choice.DISKS, allow),
            is_read_only=word.endswith(READ_ONLY),
        )
        for word in words
    )
    if len({disk.path for disk in disks}) != len(disks):
        raise ConfigError("annotation.disks", "one file as two disks")
    return disks


def _allowed_path(text: str, name: Choice, allow: Allowance) -> Path:
    """Return the path, if it is normalised and below an allowed folder.

    Links may still lead elsewhere; `opened_file` checks that once the file is open.
    """
    path = Path(text)
    if not _PATH.fullmatch(text) or ".." in path.parts:
        raise FormatError(f"annotation.{name}", f"{text!r:.80} is not a plain absolute path")
    if not any(path.is_relative_to(folder) for folder in allow.folders):
        raise ConfigError("annotation.folder", f"{path} is not below one of [allow].folders")
    return path
