"""The disks of one container, and the arguments of `host-runtime boot` for its guest.

Scratch disks are as the document declares them: new for each container, sparse, and unlinked, so
that they vanish with the last process that has them open, whichever ends first.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, LimitExceededError
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES, encode_device_image
from host_runtime.commands.tee_options import TeeKind
from host_runtime.oci_runtime.guest_choice import READ_ONLY, GuestChoice, read_scratch_sizes
from host_runtime.oci_runtime.opened_file import descriptor_path, opened_inside, read_regular
from host_runtime.oci_runtime.operator_config import OperatorConfig, parse_boot_options
from measured_boot.command_line.files import write_whole

_FILE_MODE: Final = 0o600
_BOUND_AT_LAUNCH: Final = (TeeKind.SNP, TeeKind.TDX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFiles:
    """Names of the files made in a container's folder before its guest boots."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDisks:
    """What boots a container's guest.

    Attributes:
        arguments: arguments of `host-runtime boot`; some name disks by descriptors.
        descriptors: these descriptors, which QEMU has to inherit.
    """

    arguments: tuple[str, ...]
    descriptors: tuple[int, ...]


@contextmanager
def make_disks(folder: Path, choice: GuestChoice, config: OperatorConfig) -> Iterator[MadeDisks]:
    """Make a container's disks and open those that it chose; they stay open for the caller.

    Raises:
        ConfigError: `annotation.folder`, `annotation.file`: as `opened_inside`;
            `bundle.scratch`: the scratch folder has no files of that size.
        LimitExceededError: `bundle.scratch`: larger than the operator allows;
            `annotation.initdata`: larger than a document may be.
        FormatError: as `read_scratch_sizes`.
    """
    document, allow = choice.document, config.allow
    if isinstance(document, Path):
        document = _read_document(document, config)
    sizes = read_scratch_sizes(document)
    if sum(sizes) > allow.scratch_bytes:
        raise LimitExceededError(
            "bundle.scratch",
            f"expected at most {allow.scratch_bytes} bytes of scratch, found {sum(sizes)}",
        )
    with ExitStack() as stack:
        chosen = [
            stack.enter_context(opened_inside(disk.path, allow.folders)) for disk in choice.disks
        ]
        scratch = [stack.enter_context(_scratch(config.scratch_folder, size)) for size in sizes]
        files = ContainerFiles(folder=folder)
        write_whole(files.document, document, _FILE_MODE)
        write_whole(files.initdata, encode_device_image(document), _FILE_MODE)
        disks = [str(descriptor_path(descriptor)) for descriptor in scratch]
        for disk, descriptor in zip(choice.disks, chosen, strict=True):
            disks.append(f"{descriptor_path(descriptor)}{READ_ONLY * disk.is_read_only}")
        arguments = _boot_arguments(files, choice, disks)
        yield MadeDisks(arguments=arguments, descriptors=(*scratch, *chosen))


def _boot_arguments(
    files: ContainerFiles, choice: GuestChoice, opened: list[str]
) -> tuple[str, ...]:
    image = choice.image
    arguments = [str(files.guest), *image.boot, "--discard-output"]
    arguments += ["--memory", str(choice.memory_mib), "--vcpus", str(choice.vcpus)]
    if parse_boot_options(arguments).tee in _BOUND_AT_LAUNCH:
        arguments += ["--initdata", str(files.document)]
    read_only = [files.initdata] if image.root is None else [image.root, files.initdata]
    disks = [*(f"{path}{READ_ONLY}" for path in read_only), *opened]
    return (*arguments, *(argument for disk in disks for argument in ("--disk", disk)))


@contextmanager
def _scratch(folder: Path, size_bytes: int) -> Iterator[int]:
    with tempfile.TemporaryFile(dir=folder, buffering=0) as image:
        try:
            os.ftruncate(image.fileno(), size_bytes)
        except OSError as error:  # the file system, or a limit, has no files of that size
            detail = f"no scratch of {size_bytes} bytes in {folder}: {error.strerror}"
            raise ConfigError("bundle.scratch", detail) from error
        yield image.fileno()


def _read_document(path: Path, config: OperatorConfig) -> bytes:
    if path == config.defaults.initdata:  # the operator's own, wherever it is
        return _read(path)
    with opened_inside(path, config.allow.folders) as descriptor:
        return _read(descriptor_path(descriptor))


def _read(path: Path) -> bytes:
    document = read_regular(path, MAX_DOCUMENT_BYTES, "annotation.file")
    if len(document) > MAX_DOCUMENT_BYTES:
        raise LimitExceededError("annotation.initdata", f"{path}: more than a document may have")
    return document
