"""ATTEST as the agent does it, with its children under all their restrictions; then the end.

Arguments: the KBS's URL, the file with its authority, the initdata document's file, and the socket
of a TPM. Prints the milliseconds from the phase's start to the first key.

Not as in the guest: no cgroups around the children, no clock is set, and the TPM is a socket, which
has no path that could be opened.
"""

import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

from ccinit.agent.guest import Guest, assemble
from ccinit.agent.phases import attestation, evidence, kbs_session
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.platform import devices
from ccinit.agent.platform.measurement import RuntimeMeasurement
from ccinit.agent.processes.children import Children
from ccinit.attest.detect import Platform
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, KbsConfig, KbsTransport, Limits
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.init.phases import ENVIRONMENT, INTERPRETER
from ccinit.kernel.event_loop import EventLoop

POD = "shop"


def make_guest(loop: EventLoop) -> Guest:
    """Put the parts together that ATTEST uses."""
    return assemble(loop, bytes(16)).with_children(Children(INTERPRETER, ENVIRONMENT))


def configured(url: str, ca_pem: str, document: bytes) -> Configured:
    """Return the part of a configuration that ATTEST uses: a KBS, and a pod without secrets."""
    kbs = KbsConfig(
        url=url,
        ca_pem=ca_pem,
        envelope=EnvelopePolicy.REQUIRED,
        transport=KbsTransport.TCP,
        tee_key_algorithm=TeeKeyAlgorithm.P256,
    )
    platform = Platform(tee=Tee.TPM)
    parts = SimpleNamespace(
        config=SimpleNamespace(kbs=kbs, owner=None, limits=Limits()),
        manifest=SimpleNamespace(name=POD, volumes=(), images=(), registries=(), secrets=()),
        platform=platform,
        measurement=RuntimeMeasurement(cast("Guest", None), platform),  # no register
        document=document,
    )
    return cast("Configured", parts)


def read(path: str) -> bytes:
    """Return a file's content."""
    with open(path, "rb") as file:  # noqa: PTH123  # as guest code
        return file.read()


def main() -> None:
    """Attest once."""
    url, ca_file, document, tpm = sys.argv[1:]

    @contextmanager
    def open_platform(_platform: object, _report_data: bytes) -> Iterator[Mapping[str, int]]:
        with socket.socket(socket.AF_UNIX) as device:
            device.connect(tpm)
            yield {"tpm": device.fileno()}

    for module in (evidence, devices):
        module.open_platform = open_platform  # type: ignore[attr-defined]
    loop = EventLoop()
    guest, wanted = make_guest(loop), configured(url, read(ca_file).decode(), read(document))
    began = time.perf_counter()
    resources = attestation.plan_resources(wanted.manifest)
    reply = loop.run(kbs_session.request_resources(guest, wanted, resources))
    print((time.perf_counter() - began) * 1000)
    if len(reply.released) != 1:
        sys.exit(1)


main()
