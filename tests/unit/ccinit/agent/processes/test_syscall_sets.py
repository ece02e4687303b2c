"""What a taken-over child would want from the kernel, and which roles get it.

Each wish is put to the filter that the kernel would run for the role, so a wish that is granted by
an allowed call, a rule's value or a wider mask fails alike.
"""

import errno
import fcntl
import mmap
import os
import socket

import pytest

from ccinit.agent.processes.roles import DECODERS, RIGHTS, Role, Workspace
from ccinit.kernel.seccomp import (
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS,
    SYSCALLS,
    plan_filter,
)
from tests.fakes.classic_bpf import run_filter

CLIENTS = {Role.ENDORSE, Role.KBS, Role.REGISTRY}
PROGRAMS = {Role.FORMAT, Role.COMPRESS}
RUNNERS = PROGRAMS | {Role.INDEX}
"""A program of the image, or what starts one: these map code, and work on files by path."""
JOBS = set(Role) - RUNNERS
APPENDERS = {Role.UNPACK}
WITHOUT_FILES = set(Role) - RUNNERS - CLIENTS - {Role.TREE}
WITH_OUTPUT = set(Role) - APPENDERS - {Role.TREE, Role.NET, Role.OWNER}

GRANTED, KILLED = "granted", "killed"
NUMBERS = dict(SYSCALLS) | {
    "splice": 275, "vmsplice": 278, "memfd_secret": 447, "pkey_mprotect": 329, "pwritev2": 328,
    "truncate": 76, "linkat": 265, "symlinkat": 266, "renameat2": 316, "fchmod": 91, "fchown": 93,
    "openat2": 437, "open_by_handle_at": 304, "setxattr": 188, "fsetxattr": 190, "mknodat": 259,
    "listen": 50, "accept4": 288, "recvmmsg": 299, "execveat": 322, "tgkill": 234, "tkill": 200,
    "rt_sigqueueinfo": 129, "setrlimit": 160, "chroot": 161, "setns": 308, "capset": 126,
    "setresuid": 117, "sched_setaffinity": 203, "mlock": 149, "shmget": 29, "personality": 135,
    "landlock_restrict_self": 446, "mkdirat": 258,
}  # fmt: skip
"""With calls that our filters may not even name."""


def answer(role: Role, call: str, *arguments: int) -> str:
    """Return what the role's filter says: granted, killed, or the errno's name."""
    result = run_filter(plan_filter(RIGHTS[role].syscalls), NUMBERS[call], arguments)
    if result == SECCOMP_RET_ALLOW:
        return GRANTED
    if result == SECCOMP_RET_KILL_PROCESS:
        return KILLED
    assert result & 0xFFFF_0000 == SECCOMP_RET_ERRNO
    return errno.errorcode[result & 0xFFFF]


def granted_to(call: str, *arguments: int) -> set[Role]:
    return {role for role in Role if answer(role, call, *arguments) == GRANTED}


HARMLESS = {
    "read", "write", "close", "fstat", "lseek", "mremap", "munmap", "brk", "madvise", "pread64",
    "readv", "writev", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    "restart_syscall", "exit", "exit_group", "futex", "sched_yield", "clock_gettime",
    "gettimeofday", "clock_nanosleep", "getrandom", "poll", "ppoll", "select", "pselect6", "dup",
    "dup3", "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "sendto",
    "recvfrom", "recvmsg", "rseq", "sysinfo", "uname",
}  # fmt: skip
"""On itself, the clock, and what it was given; so these are every role's."""

_WISHES: tuple[tuple[str, set[Role]], ...] = (
    # To send PID 1 an fd, which it would have to close.
    ("sendmsg", set()),
    ("sendmmsg", CLIENTS),
    # To change what was written, and is believed.
    ("pwrite64", set(Role) - APPENDERS),
    ("ftruncate fallocate copy_file_range fsync fdatasync fadvise64", WITH_OUTPUT),
    ("pwritev", RUNNERS),
    # To make, rename or remove a file.
    ("mkdir rename unlink unlinkat", RUNNERS | CLIENTS),
    # To find one, or to learn of it. The owner's connection opens its key: see below.
    ("openat readlink getdents64", RUNNERS | CLIENTS | {Role.TREE}),
    ("statx readlinkat access faccessat faccessat2 getcwd statfs", RUNNERS | CLIENTS),
    ("open stat lstat", set()),
    ("chdir fchdir getxattr fgetxattr listxattr flistxattr", {Role.TREE}),
    # To have a file that no Landlock domain was asked about.
    ("memfd_create", {Role.KBS, Role.REGISTRY, Role.OWNER}),
    # To reach somebody.
    ("connect bind getsockname getpeername getsockopt shutdown", CLIENTS | {Role.NET}),
    ("epoll_create1 epoll_ctl epoll_wait", CLIENTS | {Role.NET}),
    # To run other code.
    ("execve arch_prctl set_tid_address set_robust_list umask", RUNNERS),
    # To raise the limits that PID 1 set.
    ("prlimit64 sched_getaffinity", RUNNERS),
    ("getrlimit prctl", set()),
    # To hold another process, and signal it.
    ("pidfd_open", set()),
    # To be more than one process.
    ("clone3", set()),
    ("pipe2 seccomp wait4", {Role.INDEX}),
)
RESERVED = {call: roles for calls, roles in _WISHES for call in calls.split()}
"""Who may make a call, with any arguments."""

BY_ARGUMENT = {
    "clone", "fcntl", "ioctl", "mmap", "mprotect", "newfstatat", "setsockopt", "socket",
    "socketpair",
}  # fmt: skip
"""Whose arguments the tests below choose."""


def test_every_call_that_a_filter_may_name_has_been_thought_of() -> None:
    assert {*HARMLESS, *RESERVED, *BY_ARGUMENT} == set(SYSCALLS)


@pytest.mark.parametrize("call", sorted(HARMLESS))
def test_call_on_what_it_was_given_is_everyones(call: str) -> None:
    assert granted_to(call) == set(Role)


@pytest.mark.parametrize("call", list(RESERVED))
def test_call_that_serves_an_attacker_is_granted_to_whom_it_must(call: str) -> None:
    for first in (0, 0xFFFF_FFFF):
        granted = granted_to(call, *(first,) * 6)
        assert granted - ({Role.OWNER} if call == "openat" else set()) == RESERVED[call]


@pytest.mark.parametrize("call", sorted(NUMBERS.keys() - SYSCALLS.keys()))
def test_call_that_nobody_needs_kills(call: str) -> None:
    assert {answer(role, call) for role in Role} == {KILLED}


@pytest.mark.parametrize("role", sorted(JOBS))
@pytest.mark.parametrize("call", ["mmap", "mprotect"])
def test_job_gets_no_memory_to_execute(role: Role, call: str) -> None:
    for protection in range(8):
        expected = "EACCES" if protection & mmap.PROT_EXEC else GRANTED
        assert answer(role, call, 0, 4096, protection) == expected


@pytest.mark.parametrize("call", ["mmap", "mprotect"])
def test_program_loads_its_libraries(call: str) -> None:
    assert granted_to(call, 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC) == RUNNERS


def test_who_appends_does_not_clear_the_flag() -> None:
    """Nor has signals sent, takes leases or locks, or resizes the pipe that it reads."""
    commands = {*range(1100), 0x8000_0000 | fcntl.F_GETFL}  # F_LINUX_SPECIFIC_BASE is 1024
    granted = {
        command for command in commands if answer(Role.UNPACK, "fcntl", 0, command) == GRANTED
    }
    assert granted == {fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC}
    assert answer(Role.UNPACK, "fcntl", 0, fcntl.F_SETFL) == "EPERM"
    for command in (fcntl.F_SETFL, fcntl.F_SETFD):  # the control
        assert granted_to("fcntl", 0, command) >= set(Role) - APPENDERS


@pytest.mark.parametrize("role", sorted(WITHOUT_FILES))
def test_role_without_files_looks_at_fds_only(role: Role) -> None:
    at_empty_path, at_symlink_nofollow = 0x1000, 0x100
    assert answer(role, "newfstatat", 3, 0, 0, at_empty_path) == GRANTED
    for flags in (0, at_symlink_nofollow):
        assert answer(role, "newfstatat", 3, 0, 0, flags) == "EACCES"
        assert granted_to("newfstatat", 3, 0, 0, flags) == set(Role) - WITHOUT_FILES


def test_owner_opens_its_key_and_changes_nothing() -> None:
    read = os.O_RDONLY | os.O_CLOEXEC
    assert answer(Role.OWNER, "openat", 0, 0, read) == GRANTED
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_CREAT | os.O_EXCL):
        assert answer(Role.OWNER, "openat", 0, 0, read | flag) == "EACCES"


@pytest.mark.parametrize("role", sorted(WITHOUT_FILES - {Role.OWNER}))
def test_library_that_looks_for_a_file_is_told_no(role: Role) -> None:
    for call in ("openat", "open", "stat", "statx", "access", "readlink", "getdents64", "getcwd"):
        assert answer(role, call) == "EACCES"


def test_socket_is_made_by_whom_it_must() -> None:
    expected: dict[int, set[Role]] = {
        socket.AF_INET: CLIENTS,
        socket.AF_INET6: CLIENTS,
        socket.AF_NETLINK: CLIENTS | {Role.NET},
    }
    for family in range(64):  # AF_MAX is below
        assert granted_to("socket", family) == expected.get(family, set())
        pair = {Role.NET} if family == socket.AF_UNIX else set()
        assert granted_to("socketpair", family) == pair


@pytest.mark.parametrize("role", sorted(CLIENTS))
def test_client_sets_no_option_by_which_a_close_would_wait(role: Role) -> None:
    ip_recverr, ipv6_recverr = 11, 25
    assert answer(role, "setsockopt", 3, socket.SOL_SOCKET, socket.SO_LINGER) == "EACCES"
    for level in (socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IPV6):
        granted = {
            option
            for option in range(128)
            if answer(role, "setsockopt", 3, level, option) == GRANTED
        }
        assert granted == {socket.TCP_NODELAY, ip_recverr, ipv6_recverr}


def test_only_who_makes_sockets_sets_their_options() -> None:
    assert granted_to("setsockopt", 3, socket.SOL_SOCKET, socket.SO_SNDBUF) == {Role.NET}
    for role in set(Role) - CLIENTS - {Role.NET}:
        assert answer(role, "setsockopt", 3, socket.IPPROTO_TCP, socket.TCP_NODELAY) == KILLED


def test_program_starts_threads_but_no_process() -> None:
    clone_vm, clone_thread, clone_newuser = 0x100, 0x10000, 0x1000_0000
    assert granted_to("clone", clone_vm | clone_thread) == RUNNERS
    for flags in (0, clone_vm, clone_newuser):
        assert granted_to("clone", flags) == {Role.INDEX}
        assert {answer(role, "clone", flags) for role in PROGRAMS} == {"EPERM"}
    assert {answer(role, "clone3") for role in RUNNERS} == {"ENOSYS"}
    assert {answer(role, "prctl") for role in RUNNERS} == {"EPERM"}
    assert {answer(role, "socket") for role in RUNNERS} == {"EAFNOSUPPORT"}


IOCTLS = {
    0x5451: set(Role),  # FIOCLEX
    0x5421: set(Role),  # FIONBIO
    0x5450: set(Role),  # FIONCLEX
    0x541B: set(Role),  # FIONREAD
    0x5412: RUNNERS,  # TIOCSTI: type into a terminal
    0x5414: RUNNERS | {Role.OWNER},  # TIOCSWINSZ
    0xC020660B: RUNNERS | {Role.TREE},  # FS_IOC_FIEMAP
    0x40086602: RUNNERS,  # FS_IOC_SETFLAGS: no longer append-only
    0x40049409: RUNNERS,  # FICLONE
    0xC0045877: RUNNERS,  # FIFREEZE
    0x127F: RUNNERS,  # BLKZEROOUT
    0xC138FD03: RUNNERS,  # DM_DEV_CREATE
    0xC0205302: RUNNERS | {Role.MEASURE, Role.EVIDENCE},  # SNP_GET_EXT_REPORT
    0xC4405401: RUNNERS | {Role.MEASURE, Role.EVIDENCE},  # TDX_CMD_GET_REPORT0
    0xC0407501: RUNNERS | {Role.MEASURE, Role.EVIDENCE},  # UVIO_IOCTL_ATT
    0xC0205300: RUNNERS,  # SNP_GET_REPORT
    0xC0205301: RUNNERS,  # SNP_GET_DERIVED_KEY
}


@pytest.mark.parametrize("request_", IOCTLS)
def test_device_is_asked_by_whom_it_must(request_: int) -> None:
    """Programs hold fds of their workspace alone, where Landlock rules ioctl(2) of devices."""
    assert granted_to("ioctl", 3, request_) == IOCTLS[request_]


@pytest.mark.parametrize("role", list(Role))
def test_paths_of_a_role_are_those_of_its_work(role: Role) -> None:
    rights = RIGHTS[role]
    resolver = {"/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/usr"}
    allowed = (
        resolver if role in CLIENTS else {"/etc/ld.so.cache", "/usr"} if role in RUNNERS else set()
    )
    assert set(rights.read) == allowed
    writes = Workspace.WRITE if role in RUNNERS else Workspace.NONE
    assert rights.workspace is (Workspace.READ if role is Role.TREE else writes)
    assert rights.may_start == ("/usr/bin/mkfs.erofs" if role is Role.INDEX else "")


@pytest.mark.parametrize("role", sorted(CLIENTS))
def test_client_inflates_nothing_that_a_server_sends(role: Role) -> None:
    assert DECODERS == ("zstandard",)
    assert set(DECODERS) <= set(RIGHTS[role].without)


@pytest.mark.parametrize("role", list(Role))
def test_what_one_child_can_take_of_memory_and_of_pid_1_is_bounded(role: Role) -> None:
    rights = RIGHTS[role]
    heavy = {Role.INDEX, Role.COMPRESS, Role.UNPACK, Role.LAYERS, Role.TREE}
    assert rights.memory_bytes <= (2 << 30 if role in heavy else 512 << 20)
    assert rights.reply_bytes <= (6 << 20 if role in {Role.CONFIG, Role.KBS} else 4 << 20)
    chatty = {Role.OWNER, Role.REGISTRY}
    assert rights.messages <= (1 << 20 if role in chatty else 4096)
    fills = {Role.REGISTRY, Role.UNPACK, Role.LAYERS, Role.COMPRESS}
    assert rights.stores == (role in fills)
