"""The operator's file: which images there are, and what a bundle may choose. Pure, strict.

An image is the options of `host-runtime boot` that boot it, so that what was tried by hand is what
runs. The file may not contain the options that this runtime passes itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Never

from ccinit.errors import ConfigError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_toml import parse_toml
from host_runtime.commands.boot import add_boot_arguments

DEFAULT_PATH: Final = Path("/etc/ccinit/runtime.toml")
MAX_CONFIG_BYTES: Final = 1 << 20
_SCRATCH_FOLDER: Final = "/var/tmp"  # noqa: S108 - nothing gets a name in there
_MIB: Final = 1 << 20
_MAX_MEMORY_MIB: Final = 1 << 24
_MAX_VCPUS: Final = 4096
_MAX_BYTES: Final = 1 << 50
_ALL_LOGS_BYTES: Final = 16 << 30
_MAX_WORDS: Final = 64
# Options that the runtime passes for each container, or has no use for.
_NOT_FOR_THE_FILE: Final = (
    *("memory", "vcpus", "disk", "initdata", "discard_output", "hello_seconds", "seconds"),
    *("print", "vsock", "cid"),
)


class Choice(StrEnum):
    """What a bundle may choose, by the annotation `org.ccinit.…` of the same name."""

    INITDATA = "initdata"
    INITDATA_FILE = "initdata_file"
    IMAGE = "image"
    MEMORY = "memory_mib"
    VCPUS = "vcpus"
    DISKS = "disks"


class Cgroup(StrEnum):
    """Which cgroup the host processes of a container are in."""

    CALLER = "caller"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """One image that may be booted.

    Attributes:
        boot: options of `host-runtime boot`.
        root: its root, where that is a disk of its own (carrier `disk`).
    """

    name: str
    boot: tuple[str, ...]
    root: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a guest gets if its bundle chooses nothing; `initdata` is a document's path."""

    image: str
    memory_mib: int
    vcpus: int
    initdata: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What bundles may choose, and how much of it.

    Attributes:
        folders: files that annotations name must lie below one of these.
        scratch_bytes: of all scratch disks of one guest together, chosen or not.
        sealed_log_bytes: of one boot; what exceeds it is left in the guest.
        all_sealed_logs_bytes: of all boots together; beyond it, the oldest finished ones go.
    """

    choices: frozenset[Choice]
    folders: tuple[Path, ...]
    memory_mib: int
    vcpus: int
    scratch_bytes: int
    sealed_log_bytes: int
    all_sealed_logs_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """The whole file.

    Attributes:
        log_folder: where sealed logs are.
        scratch_folder: scratch disks are on its file system, unlinked.
        cgroup: that of whoever calls the runtime, or the one that the bundle names.
    """

    images: tuple[BootImage, ...]
    defaults: Defaults
    allow: Allowance
    log_folder: Path
    scratch_folder: Path
    stop_grace_seconds: int
    cgroup: Cgroup

    def image(self, name: str) -> BootImage:
        """Return the image of that name.

        Raises:
            ConfigError: `runtime.image`.
        """
        for image in self.images:
            if image.name == name:
                return image
        raise ConfigError("runtime.image", f"{name!r:.80} is not an image of the operator's file")


def parse_operator_config(document: bytes) -> OperatorConfig:
    """Read the file.

    Raises:
        FormatError: `runtime.toml`, or `runtime.…`, the key that is wrong.
        ConfigError: `runtime.image`, `runtime.image.twice`, `runtime.image.boot`.
    """
    with Fields(parse_toml(document, "runtime.toml"), "runtime") as fields:
        fields.integer("version", low=1, high=1)
        config = OperatorConfig(
            images=fields.tables("image", _read_image),
            defaults=fields.table("defaults", _read_defaults),
            allow=fields.table("allow", _read_allow),
            log_folder=_path(fields, "log_folder"),
            scratch_folder=_path(fields, "scratch_folder", default=_SCRATCH_FOLDER),
            stop_grace_seconds=fields.integer("stop_grace_seconds", low=0, high=65535, default=10),
            cgroup=fields.choice("cgroup", Cgroup, default=Cgroup.CALLER),
        )
    names = [image.name for image in config.images]
    if len(set(names)) != len(names):
        raise ConfigError("runtime.image.twice", "two images have one name")
    config.image(config.defaults.image)
    return config


def parse_boot_options(words: Sequence[str]) -> argparse.Namespace:
    """Read words of `host-runtime boot`.

    Raises:
        ConfigError: `runtime.image.boot`.
    """
    parser = _Parser(prog="boot", add_help=False, allow_abbrev=False)
    add_boot_arguments(parser)
    return parser.parse_args(words)


def _read_image(fields: Fields) -> BootImage:
    image = BootImage(
        name=fields.text("name", max_bytes=64),
        boot=fields.texts("boot", max_items=_MAX_WORDS),
        root=_path(fields, "root") if fields.has("root") else None,
    )
    nothing = parse_boot_options(("folder",))
    options = parse_boot_options(("folder", *image.boot))
    for name in _NOT_FOR_THE_FILE:
        if getattr(options, name) != getattr(nothing, name):
            option = name.replace("_", "-")
            raise ConfigError("runtime.image.boot", f"--{option}: given for each container")
    return image


def _read_defaults(fields: Fields) -> Defaults:
    return Defaults(
        image=fields.text("image", max_bytes=64),
        memory_mib=fields.integer("memory_mib", low=1, high=_MAX_MEMORY_MIB, default=1024),
        vcpus=fields.integer("vcpus", low=1, high=_MAX_VCPUS, default=1),
        initdata=_path(fields, "initdata") if fields.has("initdata") else None,
    )


def _read_allow(fields: Fields) -> Allowance:
    sealed_log_bytes = fields.integer(
        "sealed_log_bytes", low=_MIB, high=_MAX_BYTES, default=256 * _MIB
    )
    return Allowance(
        choices=frozenset(fields.choices("annotations", Choice)),
        folders=tuple(_absolute(text, "runtime.allow.folders") for text in fields.texts("folders")),
        memory_mib=fields.integer("memory_mib", low=1, high=_MAX_MEMORY_MIB, default=1024),
        vcpus=fields.integer("vcpus", low=1, high=_MAX_VCPUS, default=1),
        scratch_bytes=fields.integer("scratch_bytes", low=0, high=_MAX_BYTES),
        sealed_log_bytes=sealed_log_bytes,
        all_sealed_logs_bytes=fields.integer(
            "all_sealed_logs_bytes",
            low=sealed_log_bytes,
            high=_MAX_BYTES,
            default=max(_ALL_LOGS_BYTES, sealed_log_bytes),
        ),
    )


def _path(fields: Fields, key: str, *, default: str | None = None) -> Path:
    text = default if default is not None and not fields.has(key) else fields.text(key)
    return _absolute(text, f"runtime.{key}")


def _absolute(text: str, reason: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ConfigError(reason, f"{text!r:.80} is not an absolute path")
    return path


class _Parser(argparse.ArgumentParser):
    """Raises an error of ours, where argparse would end the program."""

    def error(self, message: str) -> Never:
        raise ConfigError("runtime.image.boot", message)
