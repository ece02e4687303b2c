"""A container's own limits on resources that the kernel counts for all together."""

import ctypes
import errno
import os
import resource
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ccinit.boot.harden import SETTINGS
from ccinit.formats.pod.container import Resources
from ccinit.kernel.event_loop import TaskGroup, sleep
from ccinit.run.workload import BindMount, Workload
from tests.vm.guest.containers import (
    PYTHON,
    Record,
    container,
    run_as_pid1,
    supervise,
    supervisor,
    workload,
)
from tests.vm.guest.test_run import LIBC, work  # noqa: F401  # a fixture

NR_IO_SETUP, NR_IO_DESTROY = 206, 207
UNPRIVILEGED = 900
WITHIN = Resources(memory_bytes=128 << 20, pids=400)
HOARD = """
import os, resource, select, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
def watches():
    files = [os.eventfd(0) for _ in range(500)]
    for _ in range(8):
        kept.append(select.epoll())
        for file in files: kept[-1].register(file)
def files():
    for _ in range(4000): os.eventfd(0)
def instances():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(100):
        if libc.inotify_init() < 0: raise OSError(ctypes.get_errno(), 'inotify')
def terminals():
    for _ in range(200): kept.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))
def asynchronous():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(200):
        context = ctypes.c_ulong()
        if libc.syscall(206, 10, ctypes.byref(context)) < 0:
            raise OSError(ctypes.get_errno(), 'io_setup')
def processes():
    for _ in range(300):
        if os.fork() == 0: time.sleep(600)
try: globals()[sys.argv[1]]()
except OSError as error: print(error.errno)
print('ready', flush=True)
time.sleep(600)
"""
WITHOUT = {
    "watches": "No space left on device",
    "files": "Too many open files in system",
    "instances": "Too many open files",
    "terminals": "No space left on device",
    "asynchronous": "Resource temporarily unavailable",
    "processes": "Resource temporarily unavailable",
}


def lower(kind: str) -> dict[str, int]:
    """Return settings as a smaller machine would have them, with little room above what is used."""
    match kind:
        case "watches":
            return {"fs.epoll.max_user_watches": 2000}
        case "files":
            return {"fs.file-max": int(read("fs.file-nr").split()[0]) + 1000}
        case "instances":
            return {"fs.inotify.max_user_instances": 30, "fs.inotify.max_user_watches": 1000}
        case "terminals":
            used, reserved = int(read("kernel.pty.nr")), int(read("kernel.pty.reserve"))
            return {"kernel.pty.max": used + reserved + 100}
        case "asynchronous":
            return {"fs.aio-max-nr": int(read("fs.aio-nr")) + 1000}
        case _:
            threads = int(read("/proc/loadavg").split()[3].split("/")[1])
            return {"kernel.threads-max": threads + 60, "kernel.pid_max": 1 << 15}


def read(name: str) -> str:
    path = name if name.startswith("/") else f"/proc/sys/{name.replace('.', '/')}"
    return Path(path).read_text()


@contextmanager
def settings(values: dict[str, int]) -> Iterator[None]:
    """Have some settings of the kernel meanwhile."""
    before = {name: read(name) for name in values}
    try:
        for name, value in values.items():
            Path(f"/proc/sys/{name.replace('.', '/')}").write_text(f"{value}\n")
        yield
    finally:
        for name, text in before.items():
            Path(f"/proc/sys/{name.replace('.', '/')}").write_text(text)


def what_fails() -> str:
    """Do what PID 1 does all the time: wait for a descriptor, start a child without privileges.

    And what is done in another container: watch files by the same user, begin asynchronous I/O, and
    open a terminal, for the owner.
    """
    reader, writer = os.pipe()
    # More than the tasks of this process give back just then, as one does that has read a line.
    watched = [reader, *(os.dup(reader) for _ in range(8))]
    try:
        if failed := open_terminal():
            return failed
        if LIBC.syscall(NR_IO_SETUP, 1, ctypes.byref(context := ctypes.c_ulong())) < 0:
            return os.strerror(ctypes.get_errno())
        LIBC.syscall(NR_IO_DESTROY, context)
        with select.epoll() as poll:
            for descriptor in watched:
                poll.register(descriptor)
        if (watch := LIBC.inotify_init()) < 0:
            return os.strerror(ctypes.get_errno())
        os.close(watch)
        child = subprocess.run(
            [PYTHON, "-I", "-S", "-c", "open('/proc/self/stat')"],
            user=UNPRIVILEGED,
            stderr=subprocess.PIPE,
            check=False,
        )
        return child.stderr.decode()[-200:]
    except OSError as error:
        return str(error)
    finally:
        for descriptor in (*watched, writer):
            os.close(descriptor)


# Of an instance of devpts that was not mounted where the guest's are: those have a reserve.
TERMINAL = """
import ctypes, os
os.unshare(os.CLONE_NEWNS)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b'devpts', b'/dev/pts', b'devpts', 0, b'newinstance,ptmxmode=0666') == 0
os.open('/dev/pts/ptmx', os.O_RDWR | os.O_NOCTTY)
"""


def open_terminal() -> str:
    """Open one as it is opened in another container; return what went wrong."""
    child = subprocess.run(
        [PYTHON, "-I", "-S", "-c", TERMINAL], stderr=subprocess.PIPE, check=False
    )
    return child.stderr.decode()[-200:]


def hoard(kind: str, work: Path) -> str:  # noqa: F811
    """Let a container of user 0 take what it gets; return what fails meanwhile."""
    work.mkdir()
    given = workload(container(HOARD, kind, user="0:0", resources=WITHIN), work)
    return while_it_runs(given, work, what_fails)[1]


def while_it_runs(
    given: Workload,
    work: Path,  # noqa: F811
    look: Callable[[], str],
) -> tuple[str, str]:
    """Return what the container has said once it is ready, and what is seen then."""
    record = Record()
    made = supervisor(given, work, record)

    async def case() -> str:
        async with TaskGroup() as group:
            group.start(made.run(), "container")
            while b"ready" not in record.stdout and not made.life.is_final:
                await sleep(0.05)
            assert not made.life.is_final, record.stderr
            seen = look()
            await made.stop(0)
        return seen

    seen = run_as_pid1(case)
    return record.stdout.decode(), seen


@pytest.mark.parametrize("kind", WITHOUT)
def test_container_cannot_use_up_what_is_counted_for_the_whole_guest(
    kind: str,
    work: Path,  # noqa: F811
) -> None:
    small = lower(kind)
    with settings(small):
        # What another process gives back just then is there for who looks: then once more.
        failed = hoard(kind, work / "without") or hoard(kind, work / "again")
    assert WITHOUT[kind] in failed  # so it would be
    ours = {one.name: int(one.value) for one in SETTINGS if one.name in small}
    with settings(small), settings(ours):
        assert hoard(kind, work / "with") == ""


BY_USER = {
    "processes": (resource.RLIMIT_NPROC, 40),
    "signals": (11, 0),  # RLIMIT_SIGPENDING
    "queues": (resource.RLIMIT_MSGQUEUE, 0),
}
TAKE = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def processes():
    for _ in range(60):
        if os.fork() == 0: time.sleep(600)
def signals():
    timer = ctypes.c_void_p()
    if libc.timer_create(1, None, ctypes.byref(timer)): raise OSError(ctypes.get_errno(), 'timer')
def queues():
    if libc.mq_open(b'/q', os.O_CREAT | os.O_RDWR, 0o600, None) < 0:
        raise OSError(ctypes.get_errno(), 'mq_open')
globals()[sys.argv[1]]()
print('all')
"""


@pytest.mark.parametrize("kind", BY_USER)
def test_what_the_same_user_has_elsewhere_is_none_of_a_containers(
    kind: str,
    work: Path,  # noqa: F811
) -> None:
    """These limits are of a user, wherever it is; PID 1's own would be inherited."""
    limit, left = BY_USER[kind]
    before = resource.getrlimit(limit)
    resource.setrlimit(limit, (left, before[1]))  # as if others had the rest
    try:
        given = workload(container(TAKE, kind, user="1000:1000", resources=WITHIN), work)
        report = run_as_pid1(lambda: supervise(given, work))
    finally:
        resource.setrlimit(limit, before)
    assert (report["state"], report["stdout"]) == ("done", "all\n"), report["stderr"]


MAP = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
page, count = mmap.PAGESIZE, 40000
memory = mmap.mmap(-1, 2 * count * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for number in range(count):
    if libc.mprotect(ctypes.c_void_p(start + 2 * number * page), ctypes.c_size_t(page), 0):
        print(ctypes.get_errno())
        break
else: print('all')
"""


def test_program_may_have_more_mappings_than_the_kernel_lets_it_by_itself(
    work: Path,  # noqa: F811
) -> None:
    name = "vm.max_map_count"
    (ours,) = (int(one.value) for one in SETTINGS if one.name == name)
    printed = []
    for most in (65530, ours):
        place = work / str(most)
        place.mkdir()
        given = workload(container(MAP, resources=WITHIN), place)
        with settings({name: most}):
            printed.append(run_as_pid1(lambda: supervise(given, place))["stdout"])  # noqa: B023
    assert printed == [f"{errno.ENOMEM}\n", "all\n"]


LEASE = """
import fcntl, os, time
try: fcntl.fcntl(os.open('/etc/hosts', os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK); print('held')
except OSError as error: print(error.errno)
print('ready', flush=True)
time.sleep(600)
"""


def test_container_cannot_keep_others_from_a_file_that_all_see(
    work: Path,  # noqa: F811
) -> None:
    """Whoever opens a file that is leased waits; this asks not to wait, and is told so."""
    name = "fs.leases-enable"
    (ours,) = (int(one.value) for one in SETTINGS if one.name == name)
    shared = work / "hosts"
    shared.write_text("127.0.0.1 localhost\n")
    bind = BindMount(source=str(shared), target="/etc/hosts", read_only=True)
    seen = []
    for value in (1, ours):
        place = work / str(value)
        place.mkdir()
        given = workload(container(LEASE, user="0:0", resources=WITHIN), place, binds=(bind,))
        with settings({name: value}):
            seen.append(while_it_runs(given, place, partial(try_to_open, shared)))
    assert seen == [("held\nready\n", "BlockingIOError"), (f"{errno.EINVAL}\nready\n", "")]


def try_to_open(path: Path) -> str:
    """Return what goes wrong."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return type(error).__name__
    return ""
