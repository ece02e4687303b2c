"""What enters a running container, and the debug environment: cases of `crun_cases`.

Programs with and without a terminal, files that are opened from outside, secrets that are replaced.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import TaskGroup, readable, sleep
from ccinit.kernel.mount import MountFlag, mount, unmount
from ccinit.kernel.terminal import set_window_size
from ccinit.run.crun import Crun
from ccinit.run.debug_environment import open_environment
from ccinit.run.workload import BindMount, SecretFile
from ccinit.secret import Secret
from tests.vm.guest.containers import (
    PYTHON,
    SLEEPER,
    Record,
    children,
    container,
    own_cgroup,
    started,
    summary,
    supervisor,
    workload,
)

DEBUG_PROGRAMS = (
    "id -u; grep -h CapEff /proc/self/status /proc/1/status | sort -u | wc -l",
    "cat /proc/1/comm; readlink /proc/1/ns/pid /proc/self/ns/pid /proc/1/ns/net /proc/self/ns/net",
    "touch /root-is-read-only; touch /tmp/is-not && echo written",
    "dd if=/dev/kmsg of=/dev/null count=0 status=none && echo the kernel log",
    "ls /proc/1/root/mnt/ccinit",
    "(sleep 600 &) ; exit 7",
)


async def case_exec(work: Path) -> dict[str, object]:
    """Run further programs inside; the last ends long before anybody could look."""
    record = Record()
    reader, writer = os.pipe()
    code = "import os, sys\nprint(os.getuid(), os.environ['PATH'])\nsys.exit(5)"
    null = os.memfd_create("null")  # crun gives what it gets to the container's user
    async with TaskGroup() as group:
        made = await started(group, work, SLEEPER, record)

        async def run(*arguments: str) -> str:
            process = await made.exec(arguments, stdin=null, stdout=writer, stderr=writer)
            return str(await process.wait())

        statuses = [await run(PYTHON, "-I", "-c", code)]
        statuses += [await run("/usr/bin/true") for _ in range(5)]
        killed = await made.exec(("/usr/bin/sleep", "60"), stdin=null, stdout=null, stderr=null)
        killed.kill()
        statuses.append(str(await killed.wait()))
        try:
            await run("/no/such/program")
        except CcinitError as error:
            statuses.append(error.reason)
        await made.stop(0)
        try:
            await run("/usr/bin/true")
        except CcinitError as error:
            statuses.append(error.reason)
    os.close(writer)
    os.close(null)
    with os.fdopen(reader, "rb") as stream:
        printed = stream.read().decode()
    return summary(made, work, record) | {"exec": printed, "exec_statuses": statuses}


async def case_rotate(work: Path) -> dict[str, object]:
    """Replace a secret file while a program of another user runs, and tell it."""
    code = (
        "import os, signal, time\n"
        "def show(*_):\n"
        "    print(open('/run/secrets/key').read(), os.listdir('/run/secrets'), flush=True)\n"
        "    try: open('/run/secrets/mine', 'w')\n"
        "    except OSError as error: print(error.errno, flush=True)\n"
        "signal.signal(signal.SIGHUP, show)\n"
        "show()\n"
        "time.sleep(60)\n"
    )

    def file(content: bytes) -> SecretFile:
        secret = Secret(content)
        return SecretFile(path="/run/secrets/key", mode=0o400, content=secret, rotates=True)

    given = workload(container(code), work, secret_files=(file(b"the first"),))
    record = Record()
    made = supervisor(given, work, record)
    async with TaskGroup() as group:
        group.start(made.run(), "supervisor")
        await shown(record, 0)
        for content in (b"the second", b"the third"):
            before = len(record.stdout)
            made.replace_secrets((file(content),))
            made.send_signal(signal.SIGHUP)
            await shown(record, before)
        await made.stop(0)
    return summary(made, work, record)


async def shown(record: Record, before: int) -> None:
    """Wait until the program of `case_rotate` has said everything once more."""
    while not record.stdout[before:].endswith(b"30\n"):
        await sleep(0.02)


async def case_debug(work: Path) -> dict[str, object]:
    """Run programs in the debug environment, one of which does not want to end."""
    root, state = work / "tools", work / "state"
    root.mkdir()
    state.mkdir()
    mount("/", str(root), "", MountFlag.BIND)
    record = Record()
    crun = Crun(state_dir=str(state), log=record.crun.extend)
    try:
        environment = await open_environment(crun, str(root), f"{own_cgroup()}/debug")
    except CcinitError as error:
        raise AssertionError(record.crun.decode()) from error
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    statuses = []
    for program in DEBUG_PROGRAMS:
        process = await environment.exec(
            ("/bin/sh", "-c", program), stdin=null, stdout=writer, stderr=writer
        )
        statuses.append(str(await process.wait()))
    # crun sets the size while the program starts already
    size_once_known = 'while [ "$(stty size)" = "0 0" ]; do sleep 0.1; done; stty size'
    process, terminal = await environment.exec_on_terminal(
        ("/bin/sh", "-c", size_once_known), rows=31, columns=97
    )
    statuses.append(str(await process.wait()))
    size = os.read(terminal, 64).decode().strip()
    try:
        await environment.exec(("/no/such",), stdin=null, stdout=null, stderr=null)
    except CcinitError as error:
        statuses.append(error.reason)
    for descriptor in (writer, null, terminal):
        os.close(descriptor)
    await environment.close()
    while children():  # what was killed is nobody's, and the reaper's
        await sleep(0.01)
    unmount(str(root))
    with os.fdopen(reader, "rb") as stream:
        printed = stream.read().decode().splitlines()
    return {
        "printed": printed,
        "statuses": statuses,
        "size": size,
        "left": sorted(path.name for path in (state / "bundles").glob("*")),
        "children": children(),
        "cgroup": os.access(f"/sys/fs/cgroup{own_cgroup()}/debug", os.F_OK),
    }


async def case_exec_on_terminal(work: Path) -> dict[str, object]:
    """Run a program on a terminal: it knows its size, is told of a new one, and echoes."""
    record = Record()
    code = (
        "import os, sys, time\n"
        # crun sets the size while the program starts already
        "while os.get_terminal_size(0) == (0, 0): time.sleep(0.01)\n"
        "print(os.isatty(0), os.ttyname(0), *os.get_terminal_size(0), flush=True)\n"
        "line = input()\n"
        "print(line[::-1], *os.get_terminal_size(0), os.environ['TERM'], flush=True)\n"
        "sys.exit(3)"
    )
    printed = bytearray()
    async with TaskGroup() as group:
        made = await started(group, work, SLEEPER, record)
        process, terminal = await made.exec_on_terminal(
            (PYTHON, "-I", "-c", code), rows=31, columns=97
        )
        os.set_blocking(terminal, False)
        while b"\n" not in printed:
            await readable(terminal)
            printed += os.read(terminal, 4096)
        set_window_size(terminal, 50, 120)
        os.write(terminal, b"hello\n")
        status = await process.wait()
        with suppress(OSError):
            while True:
                printed += os.read(terminal, 4096)
        os.close(terminal)
        await made.stop(0)
    lines = printed.decode().split("\r\n")
    return summary(made, work, record) | {"lines": lines, "exec_status": str(status)}


async def case_files(work: Path) -> dict[str, object]:
    """Open files as the container sees them, and what is no file at all."""
    (work / "volume").mkdir()
    os.chown(work / "volume", 1000, 1000)
    (work / "layer").mkdir()
    (work / "layer" / "large").write_bytes(b"x" * (2 << 20))
    (work / "room").mkdir()
    mount("tmpfs", str(work / "room"), "tmpfs", MountFlag(0), "size=1m")
    code = (
        "import os\n"
        "os.mkfifo('/data/fifo'); os.symlink('/etc/../../etc/hostname', '/data/link')\n"
        "open('/data/old', 'w').write('long and old')\n"
        "os.symlink('/proc/1/environ', '/data/process')\n"
    )
    record = Record()
    bind = BindMount(source=str(work / "volume"), target="/data", read_only=False)
    given = workload(
        container(code + SLEEPER, read_only=False),
        work,
        binds=(bind,),
        lowers=(str(work / "layer"), "/"),
        scratch=str(work / "room" / "scratch"),
    )
    made = supervisor(given, work, record)
    found: dict[str, object] = {}
    async with TaskGroup() as group:
        group.start(made.run(), "container")
        await made.up.wait()
        while b"ready" not in record.stdout:
            await sleep(0.02)
        for path, into in (
            *(("/data/old", True), ("/data/new", True), ("/data/old", False)),
            *(("/data/fifo", False), ("/data", False), ("/data/link", False)),
            *(("/sys/x", True), ("/none", False), ("/large", True), ("/large", False)),
            ("/proc/1/root/etc/hostname", False),
            *(("/data/process", False), ("/proc/1/comm", True)),
        ):
            try:
                descriptor = made.open_file(path, into=into, mode=0o640)
            except CcinitError as error:
                found[f"{path} {into}"] = [error.reason, getattr(error, "errno", None)]
                continue
            with os.fdopen(descriptor, "wb" if into else "rb") as file:
                if into:
                    file.write(b"new")
                else:
                    found[f"{path} {into}"] = file.read().decode()
        await made.stop(0)
    unmount(str(work / "room"))
    new = (work / "volume" / "new").stat()
    with open("/etc/hostname") as file:  # noqa: ASYNC230, PTH123
        found["here"] = file.read()
    found["new"] = [new.st_uid, new.st_gid, oct(new.st_mode)]
    return summary(made, work, record) | {"found": found}
