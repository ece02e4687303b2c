"""What containers that share namespaces do; runs inside, prints one JSON object for each look.

Called with `python3 -I -c`, the name of a function, and `end` if it is to end; so it stands alone.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
KEY, LARGE_KEY = 0x1234, 0x5678
IPC_CREAT, IPC_PRIVATE = 0o1000, 0
LARGE = 2 << 20


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def wait() -> None:
    """Go on until told to end; not as a further program of a container, which ends itself."""
    if sys.argv[-1] == "end":
        return
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        time.sleep(60)


def called(result: int) -> str:
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"


def until_refused(make: Callable[[], int]) -> int:
    """Return how many the kernel gives, at most 100."""
    return next((count for count in range(100) if make() < 0), 100)


def write_ipc() -> None:
    """Leave something in each kind of shared memory; find their ends."""
    Path("/dev/shm/note").write_text("from a")
    found = {"segment": called(LIBC.shmget(KEY, 4096, IPC_CREAT | 0o644))}
    found["queue"] = called(LIBC.mq_open(b"/queue", os.O_CREAT | os.O_RDWR, 0o644, None))
    found["large segment"] = called(LIBC.shmget(LARGE_KEY, LARGE, IPC_CREAT | 0o644))
    try:
        Path("/dev/shm/large").write_bytes(bytes(LARGE))
    except OSError as error:
        found["large file"] = errno.errorcode[error.errno or 0]
    os.unlink("/dev/shm/large")  # noqa: PTH108
    say(found)
    make_queue, make_set = LIBC.msgget, LIBC.semget
    say(
        {
            "message queues": until_refused(lambda: make_queue(IPC_PRIVATE, 0o600)),
            "semaphores": 1000 * until_refused(lambda: make_set(IPC_PRIVATE, 1000, 0o600)),
        }
    )
    wait()


def read_ipc() -> None:
    """Look for what `write_ipc` has left."""
    path = Path("/dev/shm/note")
    row = next(
        line.split()
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4] == "/dev/shm"
    )
    size = os.statvfs("/dev/shm")
    say(
        {
            "note": path.read_text() if path.exists() else None,
            "segment": called(LIBC.shmget(KEY, 0, 0)),
            "queues": os.listdir("/dev/mqueue"),  # noqa: PTH208
            "options": sorted(set(row[5].split(",")) & {"rw", "nosuid", "nodev", "noexec"}),
            "size": size.f_frsize * size.f_blocks,
            "files": size.f_files,
            "hostname": os.uname().nodename,
        }
    )
    wait()


def daemonize() -> None:
    """Leave a process without a parent, in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3):
                os.close(number)
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()


def storm() -> None:
    """Leave many processes that end without a parent, until the first process has collected them.

    Where this one is the first, nobody will.
    """
    before = len(processes())
    for _ in range(50):
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.1)
                os._exit(0)
            os._exit(0)
        os.wait()
    end = time.monotonic() + 20
    while os.getpid() > 1 and len(processes()) > before and time.monotonic() < end:
        time.sleep(0.02)


def processes() -> dict[int, dict[str, str]]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            lines = (path / "status").read_text().splitlines()
        except OSError:
            continue
        found[int(path.name)] = {
            name: value.split()[0]
            for name, _, value in (line.partition(":\t") for line in lines)
            if name in {"Name", "State", "Uid", "PPid"}
        }
    return found


def attempt(path: str) -> object:
    try:
        return Path(path).read_text()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def leave_daemon() -> None:
    storm()
    daemonize()
    states = [one["State"] for one in processes().values()]
    say({"pid": os.getpid(), "zombies": states.count("Z"), "processes": len(states)})
    wait()


def look_around() -> None:
    found = processes()
    secrets = [attempt(f"/proc/{pid}/environ") for pid in found if pid not in {1, os.getpid()}]
    say(
        {
            "pid": os.getpid(),
            "processes": len(found),
            "first": found[1],
            "secret": any("SECRET=of a" in str(one) for one in secrets),
            "environ of 1": attempt("/proc/1/environ") if os.getpid() != 1 else None,
            "mounts of 1": attempt("/proc/1/mounts") if os.getpid() != 1 else None,
            "root of 1": os.access("/proc/1/root/", os.F_OK) if os.getpid() != 1 else None,
        }
    )
    wait()


def kill_first() -> None:
    """Try every signal on the first process, with the right to."""
    outcomes = set()
    for number in signal.valid_signals():
        try:
            os.kill(1, number)
            outcomes.add("sent")
        except OSError as error:
            outcomes.add(errno.errorcode[error.errno or 0])
    time.sleep(0.5)
    say({"outcomes": sorted(outcomes), "first": processes().get(1)})
    wait()


def fail_twice() -> None:
    """Say what is there; leave a process and fail, until the third time."""
    say({"processes": len(processes())})
    count = Path("/tmp/count")
    number = int(count.read_text()) if count.exists() else 0
    count.write_text(str(number + 1))
    daemonize()
    if number < 2:
        os._exit(3)
    wait()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
