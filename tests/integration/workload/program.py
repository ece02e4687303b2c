"""PID 1 with the workload API and two containers, for real, in namespaces of its own.

The parts are the product's: event loop, children by the table of roles, supervisors over crun, the
kernel's answer about sockets. The test's are: the API's port (8006 of this machine may be in use),
the TPM, which is simulated behind a TCP port, and limits, left out as in `tools_root`. The KBS is a
real one, outside.

Each container relays: what one writes to its port goes to the API from inside the container.
"""

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ccinit.agent.guest import Guest
from ccinit.agent.phases import evidence
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.pod_namespaces import share_namespaces
from ccinit.agent.planes.workload_plane import open_workload_api
from ccinit.agent.platform import devices
from ccinit.agent.platform.measurement import RuntimeMeasurement
from ccinit.attest.detect import Platform
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, KbsConfig, KbsTransport, Limits
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import Allow, PodManifest
from ccinit.formats.pod.secret import FileSecret
from ccinit.formats.pod.share import Share
from ccinit.kernel.event_loop import EventLoop
from ccinit.run import preparation
from ccinit.secret import Secret
from tests.integration.owner_plane.program import (
    WORK,
    count_fds,
    left_behind,
    make_guest,
    make_supervisors,
    reap,
    run_until_told,
    say,
)
from tests.integration.run.tools_root import go_inside, unlimited
from tests.vm.guest.containers import container, remove_own_cgroup

NAMES = ("web", "db")
RELAY = (
    "import os, signal, socket, sys, threading, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "def relay(ours):\n"
    "    request = ours.makefile('rb').read()\n"
    "    if not request:\n"
    "        return ours.close()\n"
    "    if b'orphan' in request:\n"  # who asks has lost its parent
    "        if os.fork():\n"
    "            os.wait()\n"
    "            return ours.close()\n"
    "        if os.fork(): os._exit(0)\n"
    "        while os.getppid() != 1: time.sleep(0.01)\n"
    "    try:\n"
    "        with socket.create_connection(('127.0.0.1', int(sys.argv[2])), 60) as api:\n"
    "            api.sendall(request)\n"
    "            reply = b''.join(iter(lambda: api.recv(65536), b''))\n"
    "    except OSError as error:\n"
    "        reply = str(error).encode()\n"
    "    with ours:\n"
    "        ours.sendall(reply)\n"
    "    if b'orphan' in request: os._exit(0)\n"
    "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "while True:\n"
    "    threading.Thread(target=relay, args=(listener.accept()[0],), daemon=True).start()\n"
)


def make_configured(guest: Guest, settings: Mapping[str, Any]) -> Configured:
    """What the API looks at; only `web` may ask for evidence."""
    manifest = PodManifest(
        name="shop",
        images=(),
        containers=tuple(
            container(RELAY, str(settings["ports"][name]), str(settings["api"]), name=name)
            for name in NAMES
        ),
        secrets=tuple(
            FileSecret(container=name, uri=parse_resource_uri(uri), path="/secret")
            for name, uri in settings["secrets"].items()
        ),
        volumes=(),
        allow=Allow(evidence=("web",)),
    )
    kbs = KbsConfig(
        url=settings["kbs_url"],
        ca_pem=settings["kbs_ca"],
        envelope=EnvelopePolicy.NONE,
        transport=KbsTransport.TCP,
        tee_key_algorithm=TeeKeyAlgorithm.P256,
    )
    platform = Platform(tee=Tee.TPM, nodes=())
    return Configured(
        platform=platform,
        document=settings["document"].encode(),
        config=cast("Any", SimpleNamespace(kbs=kbs, limits=Limits(attest_seconds=30))),
        manifest=manifest,
        initdata=cast("Any", None),
        disks=(),
        measurement=RuntimeMeasurement(guest, platform),
    )


def simulate_tpm(port: int) -> None:
    """Give children a connection to the simulated TPM where they would get the device."""

    @contextmanager
    def open_platform(_platform: object, _report_data: bytes) -> Iterator[Mapping[str, int]]:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            yield {"tpm": connection.fileno()}

    for module in (evidence, devices):
        module.open_platform = open_platform  # type: ignore[attr-defined]


async def live(loop: EventLoop, settings: Mapping[str, Any]) -> dict[str, object]:
    """Open the API, start the containers, stop when standard input ends."""
    guest = make_guest(loop)
    configured = make_configured(guest, settings)
    loop.start(reap(), "reaper")
    before = count_fds()
    grants = {
        secret.uri: Grant(secret=Secret(f"for {secret.container}".encode()), create=False)
        for secret in configured.manifest.secrets
    }
    open_workload_api(guest, configured, Attested(grants=grants), settings["api"])
    share = Share(ipc=settings["share"], process=settings["share"])
    shared = await share_namespaces(guest, share, f"{WORK}/shared")
    make_supervisors(guest, configured, shared)
    return left_behind(guest, before, await run_until_told(guest))


def main() -> None:
    """Be one half or the other."""
    if len(sys.argv) == 5:
        tools, repository, site, settings = map(Path, sys.argv[1:])
        go_inside(
            "tests.integration.workload.program", tools, repository, site, settings.read_text()
        )
    settings = json.loads(sys.argv[1])
    preparation.plan_spec = unlimited  # type: ignore[attr-defined]
    simulate_tpm(settings["tpm"])
    WORK.mkdir()
    loop = EventLoop()
    report = loop.run(live(loop, settings))
    remove_own_cgroup()
    say(report)


if __name__ == "__main__":
    main()
