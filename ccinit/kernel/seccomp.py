"""Seccomp filters as classic BPF: assembled as bytes, loaded by one call.

Interface: Documentation/userspace-api/seccomp_filter.rst and `struct seccomp_data`. Assembling is
pure, so tests run the filters on an interpreter of classic BPF. `agent` decides which role may call
what.

    1. an architecture other than x86-64: kill the process;
    2. a system call that is allowed, refused (with an errno), or allowed for certain arguments;
    3. everything else, x32 numbers included: kill the process. Its parent sees SIGSYS.
"""

import ctypes
import struct
from collections.abc import Mapping

from ccinit.kernel.libc import check, libc
from ccinit.values import field, frozen

AUDIT_ARCH_X86_64 = 0xC000_003E
NR_SECCOMP = 317
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_RET_ALLOW = 0x7FFF_0000
SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_KILL_PROCESS = 0x8000_0000
SECCOMP_SET_MODE_FILTER = 1

BPF_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
BPF_JEQ = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
BPF_LD = 0x20  # BPF_LD | BPF_W | BPF_ABS
BPF_RET = 0x06  # BPF_RET | BPF_K
INSTRUCTION = struct.Struct("<HBBI")  # struct sock_filter: code, jt, jf, k

OFFSET_NR = 0
OFFSET_ARCH = 4
OFFSET_ARGUMENTS = 16  # six u64, low half first

SYSCALLS: Mapping[str, int] = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7,
    "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "pwrite64": 18,
    "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "dup": 32, "getpid": 39, "socket": 41, "connect": 42, "sendto": 44,
    "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "bind": 49, "getsockname": 51,
    "getpeername": 52, "socketpair": 53, "setsockopt": 54, "getsockopt": 55, "clone": 56,
    "execve": 59, "exit": 60, "wait4": 61, "uname": 63, "fcntl": 72, "fsync": 74, "fdatasync": 75,
    "ftruncate": 77, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83,
    "unlink": 87, "readlink": 89, "umask": 95, "gettimeofday": 96, "getrlimit": 97, "sysinfo": 99,
    "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "statfs": 137, "prctl": 157, "arch_prctl": 158, "gettid": 186,
    "getxattr": 191, "fgetxattr": 193, "listxattr": 194, "flistxattr": 196, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219,
    "fadvise64": 221,
    "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232,
    "epoll_ctl": 233, "openat": 257, "newfstatat": 262, "unlinkat": 263, "readlinkat": 267,
    "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "fallocate": 285,
    "epoll_create1": 291, "dup3": 292, "pipe2": 293, "pwritev": 296, "prlimit64": 302,
    "sendmmsg": 307, "seccomp": 317, "getrandom": 318, "memfd_create": 319, "copy_file_range": 326,
    "statx": 332, "rseq": 334, "pidfd_open": 434, "clone3": 435, "faccessat2": 439,
}  # fmt: skip
"""Numbers from <asm/unistd_64.h> of the calls that our filters may name."""


@frozen
class ArgumentRule:
    """A system call that is allowed while (argument & mask) is one of `values`.

    Attributes:
        argument: its position, from 0; only its low 32 bits are compared (the kernel reads no more
            of the arguments that have rules).
        errno: the caller's error otherwise; 0 kills the process.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    errno: int = 0


@frozen
class SyscallPolicy:
    """What a filter allows; a call in none of the three kills the process.

    Attributes:
        allowed: with any arguments.
        refused: fail with this errno; for calls that libraries try but can do without.
        rules: with certain arguments.
    """

    allowed: frozenset[str]
    refused: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, ArgumentRule] = field(default_factory=dict)


def plan_filter(policy: SyscallPolicy) -> bytes:
    """Assemble the filter program, 8 bytes for each instruction."""
    ambiguous = (policy.allowed & policy.refused.keys()) | (
        policy.rules.keys() & (policy.allowed | policy.refused.keys())
    )
    if ambiguous:
        raise RuntimeError(f"system calls with two answers: {sorted(ambiguous)}")
    program = [
        (BPF_LD, 0, 0, OFFSET_ARCH),
        (BPF_JEQ, 1, 0, AUDIT_ARCH_X86_64),
        (BPF_RET, 0, 0, SECCOMP_RET_KILL_PROCESS),
        (BPF_LD, 0, 0, OFFSET_NR),
    ]
    # Ascending numbers: read and write, the most frequent, come first.
    for number in sorted(SYSCALLS[name] for name in policy.allowed):
        program += [(BPF_JEQ, 0, 1, number), (BPF_RET, 0, 0, SECCOMP_RET_ALLOW)]
    for name, rule in policy.rules.items():
        program += _plan_rule(SYSCALLS[name], rule)
    for name, errno in policy.refused.items():
        program += [(BPF_JEQ, 0, 1, SYSCALLS[name]), (BPF_RET, 0, 0, SECCOMP_RET_ERRNO | errno)]
    program.append((BPF_RET, 0, 0, SECCOMP_RET_KILL_PROCESS))
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in program)


def _plan_rule(number: int, rule: ArgumentRule) -> list[tuple[int, int, int, int]]:
    otherwise = SECCOMP_RET_ERRNO | rule.errno if rule.errno else SECCOMP_RET_KILL_PROCESS
    body = [
        (BPF_LD, 0, 0, OFFSET_ARGUMENTS + 8 * rule.argument),
        (BPF_AND, 0, 0, rule.mask),
    ]
    for value in rule.values:
        body += [(BPF_JEQ, 0, 1, value), (BPF_RET, 0, 0, SECCOMP_RET_ALLOW)]
    body.append((BPF_RET, 0, 0, otherwise))
    return [(BPF_JEQ, 0, len(body), number), *body]


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def load_filter(program: bytes) -> None:
    """Install a filter program in every thread of this process, permanently.

    Raises:
        KernelError: no_new_privs is not set, or the program is not valid.
    """
    count = len(program) // INSTRUCTION.size
    argument = _Program(count, program)
    # With TSYNC a positive result is the id of a thread that could not be synchronised.
    result = libc.syscall(
        ctypes.c_long(NR_SECCOMP),
        ctypes.c_uint(SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.byref(argument),
    )
    check(-1 if result else 0, "seccomp", f"{count} instructions")
