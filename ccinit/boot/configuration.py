"""The jobs that read and parse the host's initdata disk, each in a child without any rights.

There are two steps because PID 1 binds the document's digest to the platform in between: reading
and inflating come first, parsing only after the binding. The disk is read once, so the bytes that
are hashed are the bytes that are parsed.
"""

import os
from collections.abc import Mapping

from ccinit.annotations import Protocol
from ccinit.errors import VerificationError
from ccinit.formats.initdata.document import (
    HEADER_BYTES,
    MAGIC,
    decompress_document,
    parse_header,
    parse_initdata,
)
from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.pod.manifest import PodManifest
from ccinit.kernel.libc import kernel_error
from ccinit.values import frozen


@frozen
class ReadInitdata:
    """Find the document on one of the disks, whose descriptors come along in order."""


@frozen
class InitdataDocument:
    """The document's exact bytes, and the index of its disk."""

    disk: int
    document: bytes


@frozen
class ParseInitdata:
    """A document that is bound to the platform."""

    document: bytes


@frozen
class Configuration:
    """What the measured document says."""

    algorithm: str
    config: GuestConfig
    manifest: PodManifest


class InitdataChannel(Protocol):
    """The job's connection to the outside."""

    @property
    def fds(self) -> Mapping[str, int]:
        """The disks, open for reading, in order; their names say nothing."""


def initdata_job(_request: ReadInitdata, channel: InitdataChannel) -> InitdataDocument:
    """Find the one disk with the initdata magic and inflate its content.

    Raises:
        VerificationError: `config.absent` or `config.ambiguous`.
        KernelError: a disk cannot be read (`kernel.pread`).
        FormatError: `initdata.…`.
    """
    disks = tuple(channel.fds.values())
    found = [index for index, fd in enumerate(disks) if _read(fd, len(MAGIC), 0) == MAGIC]
    if not found:
        raise VerificationError("config.absent", "no disk begins with the initdata magic")
    if len(found) > 1:
        raise VerificationError("config.ambiguous", f"{len(found)} disks carry initdata")
    fd = disks[found[0]]
    length = parse_header(_read(fd, HEADER_BYTES, 0))
    return InitdataDocument(
        disk=found[0], document=decompress_document(_read(fd, length, HEADER_BYTES))
    )


def config_job(request: ParseInitdata, _channel: object) -> Configuration:
    """Parse the document; raises as `parse_configuration`."""
    return parse_configuration(request.document)


def parse_configuration(document: bytes) -> Configuration:
    """Parse the document and the files in it.

    Raises:
        FormatError: `initdata.…`, or as `parse_guest_files`.
    """
    from ccinit.formats.initdata.guest_files import parse_guest_files  # noqa: PLC0415  # the child's

    initdata = parse_initdata(document)
    config, manifest = parse_guest_files(initdata)
    return Configuration(algorithm=initdata.algorithm, config=config, manifest=manifest)


def _read(fd: int, length: int, offset: int) -> bytes:
    """Read `length` bytes, or as many as there are; a read error is an error at every offset."""
    pieces = bytearray()
    while len(pieces) < length:
        try:
            piece = os.pread(fd, length - len(pieces), offset + len(pieces))
        except OSError as error:
            raise kernel_error(error, "pread", "initdata disk") from error
        if not piece:
            break
        pieces += piece
    return bytes(pieces)
