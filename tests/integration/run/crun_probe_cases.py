"""Containers that are asked whether they work, and ones with rights: cases of `crun_cases`."""

import json
from pathlib import Path

from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.container import Restart
from ccinit.formats.pod.probe import LivenessProbe, Probe
from ccinit.kernel.event_loop import TaskGroup
from ccinit.kernel.loopback import accepts_connections
from ccinit.run import probe as probe_module
from ccinit.run.workload import BindMount
from tests.integration.free_ports import free_port
from tests.vm.guest.containers import (
    PYTHON,
    Record,
    container,
    summary,
    supervise,
    supervisor,
    workload,
)


def probe(*program: str, port: int = 0) -> Probe:
    return Probe(
        exec=(PYTHON, "-I", "-c", *program) if program else (),
        tcp_port=port,
        delay_seconds=0,
        period_seconds=1,
        timeout_seconds=30,
    )


async def ready(work: Path) -> dict[str, object]:
    """Open the port once it was asked for in vain; tell the answers until that was waited for."""
    chosen, answers = free_port(), list[bool]()
    volume = work / "volume"
    volume.mkdir(mode=0o755)

    async def asked(port: int, own: str, seconds: float) -> bool:
        answers.append(await accepts_connections(port, own, seconds))
        (volume / "asked").touch()
        return answers[-1]

    code = (
        "import os, socket, time\n"
        "while not os.path.exists('/data/asked'): time.sleep(0.01)\n"
        f"with socket.create_server(('127.0.0.1', {chosen})): time.sleep(60)"
    )
    record = Record()
    bind = BindMount(source=str(volume), target="/data", read_only=True)
    given = workload(container(code, ready=probe(port=chosen)), work, binds=(bind,))
    made = supervisor(given, work, record)
    probe_module.accepts_connections = asked  # type: ignore[attr-defined]
    async with TaskGroup() as group:
        group.start(made.run(), "run")
        await made.up.wait()
        until_up = tuple(answers)
        await made.stop(0)
    return summary(made, work, record) | {"answers": until_up}


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
    """Hang once, ending in order when told to; then, started again, answer and succeed.

    The second run ends when it was asked: a question that comes while a container ends, or that is
    put twice before its program has begun, has an answer of its own.
    """
    code = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        "    os.rename('/tmp/hangs', '/tmp/hung')\n"
        "    sys.exit(0)\n"
        "if os.path.exists('/tmp/hung'):\n"
        "    while not os.path.exists('/tmp/asked'): time.sleep(0.01)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open('/tmp/hangs', 'w').close()\n"
        "time.sleep(60)"
    )
    question = (
        "import os, sys, time\n"
        "while True:\n"
        "    if os.path.exists('/tmp/hangs'): sys.exit(1)\n"
        "    if os.path.exists('/tmp/hung'): break\n"
        "    time.sleep(0.01)\n"
        "open('/tmp/asked', 'w').close()"
    )
    of = container(
        code,
        restart=Restart.ON_FAILURE,
        read_only=False,
        alive=LivenessProbe(probe=probe(question), failures=2),
    )
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
