"""What a process in a container finds and can do; runs inside, prints one JSON object.

Called with `python3 -I -c`; so it stands alone, and knows x86-64 system call numbers.
"""

import ctypes
import errno
import json
import os
import resource
import socket
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

CALLS = {
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "open_tree": (428, -100, 0, 0),
    "fsopen": (430, 0, 0),
    "unshare_user": (272, 0x10000000),
    "setns": (308, -1, 0),
    "bpf": (321, 0, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "userfaultfd": (323, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, -3, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "ptrace": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "clone_user": (56, 0x10000000, 0, 0, 0, 0),
    "clone3": (435, 0, 0),
    "not_yet_invented": (999,),
    "getpid": (39,),
}
FAMILIES = {
    "vsock": (40, socket.SOCK_STREAM, 0),
    "alg": (38, socket.SOCK_SEQPACKET, 0),
    "packet": (17, socket.SOCK_RAW, 0),
    "bluetooth": (31, socket.SOCK_RAW, 0),
    "ax25": (3, socket.SOCK_DGRAM, 0),
    "netlink_audit": (16, socket.SOCK_RAW, 9),
    "raw_inet": (2, socket.SOCK_RAW, 1),
    "netlink_route": (16, socket.SOCK_RAW, 0),
    "unix": (1, socket.SOCK_STREAM, 0),
    "inet": (2, socket.SOCK_STREAM, 0),
    "inet6": (10, socket.SOCK_STREAM, 0),
}


LIMIT_FILES = tuple(
    f"/sys/fs/cgroup/{name}"
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max")
)


def outcome(number: int, *arguments: int) -> str:
    """Return the name of the error, or "ok"."""
    ctypes.set_errno(0)
    longs = [ctypes.c_long(argument) for argument in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *longs)
    if result >= 0:
        return "ok"
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))


def socket_outcome(family: int, kind: int, protocol: int) -> str:
    """Try a socket."""
    return outcome(41, family, kind, protocol)


def status_lines() -> dict[str, str]:
    """Return /proc/self/status as a table."""
    rows = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in rows}


def open_descriptors() -> list[int]:
    """Return the descriptors that are open, without the one that lists them."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            path.stat()
        except OSError:
            continue
        found.append(int(path.name))
    return sorted(found)


def try_write(path: str) -> str:
    """Try to make or open a file for writing."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def file_facts(path: str) -> dict[str, object]:
    """Return owner, mode and content of a file."""
    facts = Path(path).stat()
    content = Path(path).read_text()
    mode = facts.st_mode & 0o777
    return {"uid": facts.st_uid, "gid": facts.st_gid, "mode": mode, "content": content}


def read_text(path: str) -> str:
    """Return a file's text, or the name of the error."""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def main(files: list[str], writes: list[str]) -> None:
    """Print everything."""
    fds = open_descriptors()
    status = status_lines()
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    report = {
        "pid": os.getpid(),
        "ids": [os.getuid(), os.getgid(), sorted(os.getgroups())],
        "fds": fds,
        "status": {
            name: status[name]
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        },
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "hostname": os.uname().nodename,
        "argv": sys.argv,
        "mounts": {row[4]: row[5].split(",") for row in mounts},
        "processes": sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")),
        "dev": sorted(path.name for path in Path("/dev").iterdir()),
        "sockets": {name: socket_outcome(*given) for name, given in FAMILIES.items()},
        "vsock_with_high_bits": outcome(41, (1 << 32) + 40, 1, 0),
        "calls": {name: outcome(*given) for name, given in CALLS.items()},
        "files": {path: file_facts(path) for path in files},
        "writes": {path: try_write(path) for path in writes},
        "limits": {path: read_text(path) for path in LIMIT_FILES},
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "oom_score_adj": int(read_text("/proc/self/oom_score_adj")),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
