"""PID 1 with an owner plane and two containers, for real, in namespaces of its own.

The parts are the product's: event loop, children by the table of roles (under Landlock and seccomp,
by the image's Python 3.13 and its locked wheels), TLS, supervisors over crun, host plane. Three
things are the test's: the host plane listens on TCP, for this kernel may have no vsock; nothing was
attested, so the TLS identity comes from a file; limits are left out as in `tools_root`.

First half, under the tests' Python: make the tools tree the root. Second half: run until standard
input ends, stop everything, print what is left as JSON.
"""

import gc
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from ccinit.agent.guest import Guest, assemble
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.planes.owner_plane import open_owner_plane
from ccinit.agent.platform.measurement import RuntimeMeasurement
from ccinit.agent.processes.children import Children
from ccinit.agent.teardown import undoing
from ccinit.attest.detect import Node, Platform
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import DebugConfig, OwnerConfig
from ccinit.formats.kbs.tls_identity import parse_tls_identity
from ccinit.formats.planes.host_rpc import HOST_CID, Phase
from ccinit.formats.pod.manifest import Allow, PodManifest
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import EventLoop, Task, readable, sleep
from ccinit.kernel.listener import accept, listen_tcp
from ccinit.kernel.process import reap_orphans
from ccinit.rpc.server import RpcLimits, serve
from ccinit.run import preparation
from ccinit.run.crun import Crun
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.supervisor import Supervisor
from ccinit.run.workload import Sinks
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.machine.owned import owned_pids
from tests.fakes.machine.user_child import play_user_child
from tests.integration.free_ports import free_port
from tests.integration.run.tools_root import SITE, go_inside, unlimited
from tests.vm.guest.containers import PYTHON, container, own_cgroup, remove_own_cgroup, workload

if TYPE_CHECKING:
    from ccinit.formats.kbs.resource_uri import KbsUri

WORK = Path("/mnt/ccinit")
PATHS = f"/opt:{SITE}:/opt/rootfs-builder/mkosi/replaced/wheels"  # as the image has them
POD = "shop"
COPIED = "copied-by-its-owner"
NOTHING_SHARED = SharedNamespaces()
TICKER = (
    "import os, signal, sys, time\n"
    # not print(): a handler that interrupts one may not print itself
    "signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'signalled\\n'))\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "print('ready', flush=True)\n"
    "number = 0\n"
    "while True:\n"
    "    time.sleep(0.05)\n"
    "    number += 1\n"
    "    print('tick', number, file=(sys.stdout, sys.stderr)[number % 2], flush=True)\n"
)


def make_guest(loop: EventLoop) -> Guest:
    children = Children((PYTHON, "-S", "-B", "-m", "ccinit"), {"PYTHONPATH": PATHS})
    return assemble(loop, bytes(16)).with_children(children)


def make_configured(guest: Guest) -> Configured:
    """What the planes look at: names, what is allowed, a platform that is not there."""
    names = ("web", "db")
    manifest = PodManifest(
        name=POD,
        images=(),
        containers=tuple(container(TICKER, name=name) for name in names),
        secrets=(),
        volumes=(),
        allow=Allow(exec=("web",)),
    )
    node = Node(name="tpm", path="/dev/no-tpm", writable=True)
    platform = Platform(tee=Tee.TPM, nodes=(node,))
    return Configured(
        platform=platform,
        document=b"",
        config=cast("Any", SimpleNamespace(debug=DebugConfig())),
        manifest=manifest,
        initdata=cast("Any", None),
        disks=(),
        measurement=RuntimeMeasurement(guest, platform),
    )


def make_supervisors(
    guest: Guest, configured: Configured, shared: SharedNamespaces = NOTHING_SHARED
) -> None:
    (WORK / "state").mkdir()

    def log(data: bytes) -> None:
        guest.log.append(Kind.RUNTIME, "crun", data)

    crun = Crun(state_dir=str(WORK / "state"), log=log)
    for one in configured.manifest.containers:
        given = replace(
            workload(one, WORK),
            scratch=f"{WORK}/scratch-{one.name}",
            run_dir=f"{WORK}/run-{one.name}",
            cgroup_path=f"{own_cgroup()}/{one.name}",
            shared=shared,
        )
        guest.containers[one.name] = Supervisor(
            given, crun, make_sinks(guest, one.name), play_user_child
        )


def make_sinks(guest: Guest, name: str) -> Sinks:
    def stdout(data: bytes) -> None:
        guest.log.append(Kind.STDOUT, name, data)

    def stderr(data: bytes) -> None:
        guest.log.append(Kind.STDERR, name, data)

    return Sinks(stdout=stdout, stderr=stderr, event=guest.event)


async def live(loop: EventLoop, settings: dict[str, str]) -> dict[str, object]:
    """Open both planes, start the containers, say where; stop when standard input ends."""
    guest = make_guest(loop)
    configured = make_configured(guest)
    loop.start(reap(), "reaper")
    before = count_fds()
    identity = Secret(settings["identity"].encode())
    shown = parse_tls_identity(identity.reveal()).certificate_der
    grants: dict[KbsUri, Grant] = {
        tls_identity_uri(configured.manifest): Grant(
            secret=identity, create=False, certificate_der=shown
        )
    }
    guest.state.enter(Phase.ATTEST)
    host, host_port = listen()
    plane = loop.start(serve(lambda: accept_host(host), guest.service, RpcLimits()), "host plane")
    say({"host": host_port})
    await read_line()
    owner_port = free_port()
    config = OwnerConfig(port=owner_port, client_ca_pem=settings["client_ca"])
    open_owner_plane(guest, configured, Attested(grants=grants), config)
    guest.state.enter(Phase.RUN)
    say({"owner": owner_port})
    await read_line()
    make_supervisors(guest, configured)
    assert guest.service.owner is not None
    held = {"after": 0}
    # As the pod does it, between its containers and its disks.
    guest.teardown.push("search", undoing(lambda: held.update(after=count_copied())))
    guest.teardown.push("owner's copies", guest.service.owner.end_copies)
    failures = await run_until_told(guest, lambda: held.update(before=count_copied()))
    await plane.stop()
    host.close()
    return {"held": held, **left_behind(guest, before, failures)}


def count_copied() -> int:
    """How many descriptors of all processes lead to files of this name."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it is gone
            found += COPIED in str(path.readlink())
    return found


async def run_until_told(guest: Guest, look: Callable[[], None] = lambda: None) -> list[str]:
    """Run the containers until a line comes, or the end of input; return how teardown failed.

    Then `look` is called before anything ends.
    """
    tasks = [guest.loop.start(one.run(), name) for name, one in guest.containers.items()]
    for one in guest.containers.values():
        await one.up.wait()
    say({"running": sorted(guest.containers)})
    await read_line()
    look()
    for one in guest.containers.values():
        await one.stop(5)
    for task in tasks:
        await task.join()
    return [str(error) for _, error in await guest.teardown.run()]


def left_behind(guest: Guest, fds_before: int, failures: list[str]) -> dict[str, object]:
    """Return what the tests look at when everything is down."""
    return {
        "ssl": "ssl" in sys.modules,
        "owned": owned_pids(),
        "fds": count_fds() - fds_before,
        "failures": failures,
        "ended": [one.name for one in gc.get_objects() if isinstance(one, Task) and one.is_done()],
        "events": [
            entry.data.decode()
            for entry in guest.log.recent.since(0, 1 << 20)
            if entry.kind is Kind.EVENT
        ],
    }


async def reap() -> None:
    while True:
        reap_orphans()
        await sleep(0.01)


def listen() -> tuple[socket.socket, int]:
    listener = listen_tcp(0)
    return listener, listener.getsockname()[1]


async def accept_host(listener: socket.socket) -> tuple[socket.socket, int]:
    connection, _ = await accept(listener)
    return connection, HOST_CID


async def read_line() -> bytes:
    await readable(0)
    return os.read(0, 4096)


def say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


def count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> None:
    """Be one half or the other."""
    if len(sys.argv) == 5:
        tools, repository, site, settings = map(Path, sys.argv[1:])
        go_inside(
            "tests.integration.owner_plane.program", tools, repository, site, settings.read_text()
        )
    preparation.plan_spec = unlimited  # type: ignore[attr-defined]
    WORK.mkdir()
    gc.disable()  # what it would have to find is in the report
    loop = EventLoop()
    report = loop.run(live(loop, json.loads(sys.argv[1])))
    remove_own_cgroup()
    say(report)


if __name__ == "__main__":
    main()
