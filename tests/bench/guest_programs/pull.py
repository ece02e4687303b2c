"""PULL as the agent does it, with its children under all their restrictions; then the end.

Arguments: the image's reference, the file with the registry's authority, and, if it is encrypted,
the file with the key that a KBS would release. The image's tars, indexes and mounts go below
/tmp/store. It prints a line when it is where a PID 1 is that is about to pull, waits for a line,
pulls, and prints the number of bytes in all files of the image.

As in the guest, the children that receive the image load their code during ATTEST and UNLOCK, and
have no longer for it: the pull has to wait for those that are not ready by then.

Not as in the guest: no cgroups around the children, and /tmp is the machine's disk, not an
encrypted one. ATTEST is a pause, shorter than the phase with a KBS on loopback (which has a row of
its own), and of UNLOCK only mkfs.ext4 is run.
"""

import os
import sys
from types import SimpleNamespace
from typing import cast

from ccinit.agent.guest import Guest, assemble
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.images import Pulled, prepare_first, pull
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.pod.manifest import Image
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.init.phases import ENVIRONMENT, INTERPRETER
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.kernel.memory import page_out_code
from ccinit.secret import Secret
from ccinit.unlock.filesystem import plan_mkfs

STORE = "/tmp/store"
DISK = "/tmp/disk"
DISK_BYTES = 8 << 30
FORMAT_SECONDS = 60
ATTEST_SECONDS = 0.1
KEY = ResourceUri("ccinit", "bench", "file-key")


def make_guest(loop: EventLoop) -> Guest:
    """Put the parts together that PULL uses."""
    return assemble(loop, bytes(16)).with_children(Children(INTERPRETER, ENVIRONMENT))


def configured(reference: str, ca_pem: str, *keys: ResourceUri) -> Configured:
    """Return the part of a configuration that PULL uses: limits, and one image."""
    image = Image(
        name="large", reference=reference, policy=None, auth=None, ca_pem=ca_pem, keys=keys
    )
    scratch = ScratchVolume(name="scratch", size_bytes=1 << 30, profile=ScratchProfile.AEAD_RAM)
    parts = SimpleNamespace(
        config=SimpleNamespace(limits=Limits()),
        manifest=SimpleNamespace(images=(image,), registries=(), secrets=(), volumes=(scratch,)),
        measurement=SimpleNamespace(note=lambda _event: None),
    )
    return cast("Configured", parts)


async def open_storage(guest: Guest) -> None:
    """Make the file system of a scratch disk, in a file that has no blocks yet."""
    uid = RIGHTS[Role.FORMAT].uid
    disk = os.open(DISK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.truncate(disk, DISK_BYTES)
    os.chown(disk, uid, uid)
    os.close(disk)
    end = await guest.children.run_program(
        Role.FORMAT,
        plan_mkfs(DISK, DISK_BYTES, journal=False),
        seconds=FORMAT_SECONDS,
        workspace=DISK,
    )
    if not end.status.is_success():
        raise SystemExit(f"mkfs.ext4: {end.status}: {end.output}")
    os.unlink(DISK)  # noqa: PTH108


async def pull_when_told(guest: Guest, parts: Configured, attested: Attested) -> Pulled:
    """Do what the guest does from ATTEST to the end of PULL."""
    page_out_code()
    async with prepare_first(guest, parts) as waiting:
        await sleep(ATTEST_SECONDS)
        await open_storage(guest)
        print("ready", flush=True)
        sys.stdin.readline()
        return await pull(guest, parts, attested, Unlocked(volumes={}, store=STORE), waiting)


def read(name: str) -> bytes:
    """Return the content of a file."""
    with open(name, "rb") as file:  # noqa: PTH123  # as guest code
        return file.read()


def main() -> None:
    """Pull once."""
    reference, ca_file, *key_files = sys.argv[1:]
    grants: dict[KbsUri, Grant] = {}
    if key_files:
        grants[KEY] = Grant(secret=Secret(read(key_files[0])), create=False)
    os.mkdir(STORE, 0o711)  # noqa: PTH102
    loop = EventLoop()
    guest = make_guest(loop)
    parts = configured(reference, read(ca_file).decode(), *[KEY] * len(grants))
    done = loop.run(pull_when_told(guest, parts, Attested(grants=grants)))
    print(sum(image.file_bytes for image in done.images.values()), flush=True)


main()
