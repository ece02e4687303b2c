"""CONFIG: from the host's disks to a configuration that is bound to the platform.

1. a child finds and inflates the one initdata document;
2. PID 1 hashes those bytes; another child identifies the platform and binds the digest to it;
3. only then does a third child parse them, and PID 1 takes its typed result;
4. the document's algorithm must be the one that the digest was bound with.
"""

import os
from contextlib import ExitStack

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.platform.devices import run_on_platform
from ccinit.agent.platform.measurement import RuntimeMeasurement
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import undoing
from ccinit.attest.detect import Platform, detect_platform
from ccinit.boot.configuration import (
    Configuration,
    InitdataDocument,
    ParseInitdata,
    ReadInitdata,
)
from ccinit.errors import ChildError, VerificationError
from ccinit.formats.evidence.tee import NO_REPORT_DATA, Tee, initdata_binding, is_judged_at_launch
from ccinit.formats.initdata.document import document_digest
from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.pod.manifest import PodManifest
from ccinit.kernel.block import BlockDevice, list_virtio_disks
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.efi_secret import wipe_secrets
from ccinit.kernel.libc import open_path
from ccinit.values import frozen, replace

SECONDS = 60.0
REPORT_SECONDS = 90.0  # as for evidence: on most platforms it needs a report


@frozen
class Configured:
    """What the owner wants, and on what.

    Attributes:
        document: the initdata document's exact bytes.
        initdata: the disk that carried it.
        disks: every disk that the host has attached.
        measurement: of what the guest does from now on.
        parameters: what a request to the KBS has to tell of the platform, JSON; or empty.
    """

    platform: Platform
    document: bytes
    config: GuestConfig
    manifest: PodManifest
    initdata: BlockDevice
    disks: tuple[BlockDevice, ...]
    measurement: RuntimeMeasurement
    parameters: bytes = b""


async def configure(guest: Guest) -> Configured:
    """Take the configuration; see the module's steps.

    Raises:
        VerificationError: `config.…`: absent, ambiguous, not bound.
        ChildError: `child.protocol`, a child names a disk or platform that does not exist.
        FormatError: `initdata.…`, `ccinit.…` or `pod.…`.
        ConfigError: `attest.…`: not exactly one platform.
    """
    platform = detect_platform()
    if is_judged_at_launch(platform.tee):
        guest.teardown.push("launch secrets", undoing(wipe_secrets))
    disks = list_virtio_disks()
    found = await _read_document(guest, disks)
    if not 0 <= found.disk < len(disks):
        raise ChildError("child.protocol", f"{len(disks)} disks, and the document on {found.disk}")
    algorithm = initdata_binding(platform.tee).algorithm
    digest = document_digest(found.document, algorithm)
    bound = await run_on_platform(
        guest,
        platform,
        Role.MEASURE,
        BindRequest(tee=platform.tee, digest=digest),
        BindReply,
        report_data=NO_REPORT_DATA,
        seconds=REPORT_SECONDS,
    )
    platform = _name_platform(platform, bound.tee)
    parsed = await guest.children.run(
        Role.CONFIG, ParseInitdata(document=found.document), Configuration, seconds=SECONDS
    )
    if parsed.algorithm != algorithm:
        raise VerificationError(
            "initdata.algorithm",
            f"{parsed.algorithm}, {platform.tee} is bound by {algorithm}",
        )
    return Configured(
        platform=platform,
        document=found.document,
        config=parsed.config,
        manifest=parsed.manifest,
        initdata=disks[found.disk],
        disks=disks,
        measurement=RuntimeMeasurement(guest, platform),
        parameters=bound.parameters,
    )


def _name_platform(platform: Platform, tee: Tee) -> Platform:
    """Take the child's answer as to which of several look-alike platforms this is.

    Raises:
        ChildError: `child.protocol`, the answer is none of them.
    """
    if tee not in (platform.tee, *platform.asked):
        raise ChildError("child.protocol", f"{platform.tee} was named {tee}")
    return replace(platform, tee=tee)


async def _read_document(guest: Guest, disks: tuple[BlockDevice, ...]) -> InitdataDocument:
    if not disks:
        raise VerificationError("config.absent", "the host has attached no disk")
    with ExitStack() as stack:
        fds = {
            str(index): stack.enter_context(Descriptor(open_path(disk.node, os.O_RDONLY)))
            for index, disk in enumerate(disks)
        }
        return await guest.children.run(
            Role.INITDATA,
            ReadInitdata(),
            InitdataDocument,
            seconds=SECONDS,
            fds=fds,
        )
