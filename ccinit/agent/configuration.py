"""CONFIG: from the host's disks to a configuration that is bound to the platform.

1. a child finds and inflates the one initdata document;
2. PID 1 hashes those bytes and has the digest bound into the platform's register;
3. only then a child parses them, and PID 1 takes the typed result;
4. the document's algorithm must be the one that the register was bound with.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ccinit.agent.guest import Guest
from ccinit.agent.messages import BindReply, BindRequest
from ccinit.agent.roles import Role
from ccinit.attest.detect import Platform, detect_platform
from ccinit.boot.configuration import (
    Configuration,
    InitdataDocument,
    ParseInitdata,
    ReadInitdata,
)
from ccinit.errors import VerificationError
from ccinit.formats.guest_config import GuestConfig
from ccinit.formats.initdata import document_digest
from ccinit.formats.pod_manifest import PodManifest
from ccinit.kernel.block import BlockDevice, list_virtio_disks
from ccinit.kernel.libc import kernel_error

_SECONDS = 60.0
_ALGORITHM = "sha256"  # of every platform that has an Attester here; TDX will take sha384


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What the owner wants, and on what.

    Attributes:
        document: the initdata document's exact bytes.
        initdata: the disk that carried it.
        disks: every disk that the host has attached.
    """

    platform: Platform
    document: bytes
    config: GuestConfig
    manifest: PodManifest
    initdata: BlockDevice
    disks: tuple[BlockDevice, ...]


async def configure(guest: Guest) -> Configured:
    """Take the configuration; see the module's steps.

    Raises:
        VerificationError: `config.…`: absent, ambiguous, not bound.
        FormatError: `initdata.…`, `ccinit.…` or `pod.…`.
        ConfigError: `attest.…`: not exactly one platform.
    """
    platform = detect_platform()
    disks = list_virtio_disks()
    found = await _read_document(guest, disks)
    if not 0 <= found.disk < len(disks):
        raise VerificationError("config.absent", "the child names a disk that does not exist")
    digest = document_digest(found.document, _ALGORITHM)
    with open_device(platform.device, os.O_RDWR) as device:
        await guest.children.run(
            Role.MEASURE,
            BindRequest(digest=digest),
            BindReply,
            seconds=_SECONDS,
            fds={"tpm": device},
        )
    parsed = await guest.children.run(
        Role.CONFIG, ParseInitdata(document=found.document), Configuration, seconds=_SECONDS
    )
    if parsed.algorithm != _ALGORITHM:
        raise VerificationError(
            "initdata.algorithm",
            f"{parsed.algorithm}, the register of {platform.tee} takes {_ALGORITHM}",
        )
    return Configured(
        platform=platform,
        document=found.document,
        config=parsed.config,
        manifest=parsed.manifest,
        initdata=disks[found.disk],
        disks=disks,
    )


async def _read_document(guest: Guest, disks: tuple[BlockDevice, ...]) -> InitdataDocument:
    if not disks:
        raise VerificationError("config.absent", "the host has attached no disk")
    with ExitStack() as stack:
        fds = {
            str(index): stack.enter_context(open_device(disk.node, os.O_RDONLY))
            for index, disk in enumerate(disks)
        }
        return await guest.children.run(
            Role.INITDATA,
            ReadInitdata(disks=len(disks)),
            InitdataDocument,
            seconds=_SECONDS,
            fds=fds,
        )


@contextmanager
def open_device(node: str, flags: int) -> Iterator[int]:
    """Hold a device node open for a child; yields the descriptor.

    Raises:
        KernelError: `kernel.open`.
    """
    try:
        fd = os.open(node, flags | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(error, "open", node) from error
    try:
        yield fd
    finally:
        os.close(fd)
