"""The disks of one container, and the words of `host-runtime boot` that its guest is booted with.

Scratch disks are as the document declares them: new for each container, sparse, gone with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, LimitExceededError
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES, encode_device_image
from host_runtime.disks import create_sparse_disk
from host_runtime.oci_runtime.guest_choice import READ_ONLY, GuestChoice, read_scratch_sizes
from host_runtime.oci_runtime.operator_config import (
    Allowance,
    OperatorConfig,
    parse_boot_options,
)
from host_runtime.tee_options import TeeKind

_BOUND_AT_LAUNCH: Final = (TeeKind.SNP, TeeKind.TDX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDisks:
    """Paths of what is made in a container's folder."""

    folder: Path

    @property
    def guest(self) -> Path:
        """The folder of the boot, as `host-runtime … --guest` takes it."""
        return self.folder / "guest"

    @property
    def document(self) -> Path:
        """The initdata document."""
        return self.folder / "initdata.toml"

    @property
    def initdata(self) -> Path:
        """The disk that carries it."""
        return self.folder / "initdata.img"

    def scratch(self, number: int) -> Path:
        """A scratch disk."""
        return self.folder / f"scratch{number}.img"


def make_disks(folder: Path, choice: GuestChoice, config: OperatorConfig) -> tuple[str, ...]:
    """Make a container's disks in its folder; return the words that boot its guest.

    Raises:
        ConfigError: `annotation.folder`: a file that leads elsewhere; `annotation.initdata`.
        LimitExceededError: `bundle.scratch`: larger than the operator allows.
        FormatError: as `read_scratch_sizes`.
    """
    document, allow = choice.document, config.allow
    if isinstance(document, Path):
        if document != config.defaults.initdata:
            _require_inside(document, allow)
        document = _read_document(document)
    sizes = read_scratch_sizes(document)
    if sum(sizes) > allow.scratch_bytes:
        raise LimitExceededError(
            "bundle.scratch", f"{sum(sizes)} bytes of scratch, at most {allow.scratch_bytes}"
        )
    for disk in choice.disks:
        _require_inside(disk.path, allow)
    made = ContainerDisks(folder=folder)
    made.document.write_bytes(document)
    made.initdata.write_bytes(encode_device_image(document))
    for number, size in enumerate(sizes):
        create_sparse_disk(made.scratch(number), size)
    return _boot_words(made, choice, len(sizes))


def _boot_words(made: ContainerDisks, choice: GuestChoice, scratch_disks: int) -> tuple[str, ...]:
    image = choice.image
    words = [str(made.guest), *image.boot, "--discard-output"]
    words += ["--memory", str(choice.memory_mib), "--vcpus", str(choice.vcpus)]
    if parse_boot_options(words).tee in _BOUND_AT_LAUNCH:
        words += ["--initdata", str(made.document)]
    read_only = [made.initdata] if image.root is None else [image.root, made.initdata]
    disks = [f"{path}{READ_ONLY}" for path in read_only]
    disks += [str(made.scratch(number)) for number in range(scratch_disks)]
    disks += [f"{disk.path}{READ_ONLY * disk.is_read_only}" for disk in choice.disks]
    return (*words, *(word for disk in disks for word in ("--disk", disk)))


def _read_document(path: Path) -> bytes:
    with path.open("rb") as file:
        document = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(document) > MAX_DOCUMENT_BYTES:
        raise LimitExceededError("annotation.initdata", f"{path}: more than a document may have")
    return document


def _require_inside(path: Path, allow: Allowance) -> None:
    real = path.resolve(strict=True)
    if not any(real.is_relative_to(folder.resolve()) for folder in allow.folders):
        raise ConfigError("annotation.folder", f"{path} leads to {real}, out of what is allowed")
