"""Containers that are asked whether they work, and ones with rights: cases of `crun_cases`."""

import json
import socket
from pathlib import Path

from ccinit.formats.pod_capability import Capability
from ccinit.formats.pod_container import Restart
from ccinit.formats.pod_probe import Probe
from ccinit.kernel.event_loop import TaskGroup, boottime
from tests.vm.guest.containers import (
    PYTHON,
    Record,
    container,
    summary,
    supervise,
    supervisor,
    workload,
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def probe(*program: str, port: int = 0, failures: int = 2) -> Probe:
    return Probe(
        exec=(PYTHON, "-I", "-c", *program) if program else (),
        tcp_port=port,
        delay_seconds=0,
        period_seconds=1,
        timeout_seconds=5,
        failures=failures,
    )


async def ready(work: Path) -> dict[str, object]:
    """Be ready a moment after the start, and tell whether that was waited for."""
    port = free_port()
    code = (
        "import socket, time\n"
        "time.sleep(0.5)\n"
        f"with socket.create_server(('127.0.0.1', {port})): time.sleep(60)"
    )
    record = Record()
    made = supervisor(workload(container(code, ready=probe(port=port)), work), work, record)
    begin = boottime()
    async with TaskGroup() as group:
        group.start(made.run(), "run")
        await made.up.wait()
        waited = boottime() - begin
        await made.stop(0)
    return summary(made, work, record) | {"waited": waited}


async def never_ready(work: Path) -> dict[str, object]:
    """End while nobody has said yes yet; whoever waits is told."""
    of = container("import time; time.sleep(0.3)", ready=probe("raise SystemExit(1)"))
    record = Record()
    made = supervisor(workload(of, work), work, record)
    async with TaskGroup() as group:
        group.start(made.run(), "run")
        await made.up.wait()
    return summary(made, work, record)


async def alive(work: Path) -> dict[str, object]:
    """Hang once, ending in order when told to; then, started again, succeed."""
    code = (
        "import os, signal, sys, time\n"
        "if os.path.exists('/tmp/again'): sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "open('/tmp/again', 'w').close()\n"
        "time.sleep(60)"
    )
    question = "import os, sys; sys.exit(os.path.exists('/tmp/again'))"
    of = container(code, restart=Restart.ON_FAILURE, read_only=False, alive=probe(question))
    return await supervise(workload(of, work), work)


async def capabilities(work: Path) -> dict[str, object]:
    """Do as a plain user what one capability allows, and what another one would."""
    code = (
        "import json, os, time\n"
        "def tried(call, *arguments):\n"
        "    try: call(*arguments)\n"
        "    except OSError as error: return error.errno\n"
        "open('/tmp/file', 'w').close()\n"
        "clock = time.clock_gettime(time.CLOCK_REALTIME)\n"
        "print(json.dumps({'chown': tried(os.chown, '/tmp/file', 7, 7),\n"
        "    'chroot': tried(os.chroot, '/tmp'),\n"
        "    'clock': tried(time.clock_settime, time.CLOCK_REALTIME, clock)}))"
    )
    of = container(code, read_only=False, capabilities=(Capability.CHOWN,))
    report = await supervise(workload(of, work), work)
    seen: dict[str, object] = json.loads(str(report["stdout"]))
    return report | seen
