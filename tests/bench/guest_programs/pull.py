"""PULL as the agent does it, with its children under all their restrictions; then the end.

Arguments: the image's reference, the file with the registry's authority, and, if it is encrypted,
the file with the key that a KBS would release. The image's tars, indexes and mounts go below
/tmp/store. It prints a line when it has come as far as a PID 1 that is about to pull, waits for
one, pulls, and prints the bytes of all files of the image.

Not as in the guest: no cgroups around the children, and /tmp is the machine's disk, not an
encrypted one.
"""

import os
import sys
from types import SimpleNamespace
from typing import cast

from ccinit.agent.guest import Guest, Teardown
from ccinit.agent.host_service import HostService
from ccinit.agent.phases.attestation import Attested, Grant
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.images import pull
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.processes.children import Children
from ccinit.agent.state import BootState
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.pod.manifest import Image
from ccinit.init.phases import ENVIRONMENT, INTERPRETER
from ccinit.kernel.event_loop import EventLoop
from ccinit.seal.log import SealedLog
from ccinit.secret import Secret

STORE = "/tmp/store"
KEY = ResourceUri("ccinit", "bench", "file-key")


def make_guest(loop: EventLoop) -> Guest:
    """Put the parts together that PULL uses."""
    state, log = BootState(), SealedLog()
    return Guest(
        loop=loop,
        state=state,
        log=log,
        service=HostService(state, bytes(16), log.ring),
        children=Children(INTERPRETER, ENVIRONMENT),
        teardown=Teardown(),
    )


def configured(reference: str, ca_pem: str, *keys: ResourceUri) -> Configured:
    """Return as much of a configuration as PULL looks at: limits, and one image."""
    image = Image(
        name="large", reference=reference, policy=None, auth=None, ca_pem=ca_pem, keys=keys
    )
    parts = SimpleNamespace(
        config=SimpleNamespace(limits=Limits()),
        manifest=SimpleNamespace(images=(image,), registries=(), secrets=()),
        measurement=SimpleNamespace(note=lambda _event: None),
    )
    return cast("Configured", parts)


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
    print("ready", flush=True)
    sys.stdin.readline()
    done = loop.run(
        pull(
            guest,
            configured(reference, read(ca_file).decode(), *[KEY] * len(grants)),
            Attested(grants=grants),
            Unlocked(volumes={}, store=STORE),
        )
    )
    print(sum(image.file_bytes for image in done.images.values()), flush=True)


main()
