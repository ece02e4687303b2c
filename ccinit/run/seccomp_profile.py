"""The system calls of a workload: what it may call, what it is refused, and why (R73).

Scope: the profile of every container, in the form of the OCI runtime spec (config-linux.md,
"Seccomp"), with the changes that its manifest asks for. Left to others: which names a manifest may
use (`ccinit.formats.pod.seccomp`), loading the filter (`crun` with libseccomp). The guest's own
children have much smaller filters of their own.

There are three answers. Listed calls are allowed. Calls that a workload must not have fail with
EPERM, and socket families with EAFNOSUPPORT, as if the kernel lacked them. Everything else,
including every call that a later kernel adds, fails with ENOSYS, on which C libraries fall back to
older calls. 32-bit calls, `socketcall` among them, kill the process: the profile names only one
architecture.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from ccinit.formats.pod.seccomp import Seccomp
from ccinit.formats.pod.system_calls import FORBIDDEN

Rule: TypeAlias = dict[str, object]
Condition: TypeAlias = tuple[int, str, int, int]
"""On a 64-bit argument: its index, operator, value (or mask), second value (what is masked)."""

EPERM: Final = 1
E2BIG: Final = 7
ENOSYS: Final = 38
ENOPROTOOPT: Final = 92
EPROTONOSUPPORT: Final = 93
ESOCKTNOSUPPORT: Final = 94
EAFNOSUPPORT: Final = 97

AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
NETLINK_ROUTE: Final = 0
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
IPPROTO_TCP: Final = 6
TCP_REPAIR: Final = 19

_ALLOW: Final = "SCMP_ACT_ALLOW"
_ERRNO: Final = "SCMP_ACT_ERRNO"
_EQUAL: Final = "SCMP_CMP_EQ"
_AT_MOST: Final = "SCMP_CMP_LE"
_GREATER: Final = "SCMP_CMP_GT"
_MASKED: Final = "SCMP_CMP_MASKED_EQ"

_SOCKET_TYPE: Final = 0xF  # SOCK_TYPE_MASK; above it are flags
_OTHER_TYPES: Final = ((0xF, 0x0), (0xC, 0x4), (0x8, 0x8))  # mask, value: 0, 4 to 7, 8 to 15
_PROTOCOL_BITS: Final = 9  # IPPROTO_MAX is 263
_LEVEL_BITS: Final = 9  # SOL_VSOCK is 287, and the last one
_OPTION_BITS: Final = 8  # of TCP, which has 45
_WORD: Final = (1 << 64) - 1

# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_NEW_NAMESPACES: Final = tuple(1 << bit for bit in (17, 25, 26, 27, 28, 29, 30))
CLONE_PARENT: Final = 0x8000

ALLOWED: Final[tuple[tuple[str, str], ...]] = (
    (
        "bytes to and from open files; the descriptor was the decision",
        (
            "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek"
            " close close_range dup dup2 dup3 fcntl ioctl flock fsync fdatasync sync syncfs"
            " sync_file_range sendfile splice tee vmsplice copy_file_range readahead fadvise64"
            " fallocate ftruncate io_setup io_destroy io_submit io_cancel io_getevents"
            " io_pgetevents cachestat"
        ),
    ),
    (
        "files by name, within the container's own mounts and the rights of its user",
        (
            "open openat openat2 creat access faccessat faccessat2 stat fstat lstat"
            " newfstatat statx statfs fstatfs readlink readlinkat getdents getdents64"
            " getcwd chdir fchdir chroot mkdir mkdirat rmdir unlink unlinkat rename renameat"
            " renameat2 link linkat symlink symlinkat mknod mknodat truncate umask chmod"
            " fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat"
            " futimesat getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr"
            " lremovexattr fremovexattr inotify_init inotify_init1 inotify_add_watch"
            " inotify_rm_watch"
        ),
    ),
    (
        "the process's own memory",
        (
            "brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 munlock"
            " mlockall munlockall memfd_create memfd_secret membarrier pkey_alloc pkey_free"
            " pkey_mprotect mseal map_shadow_stack remap_file_pages get_mempolicy"
        ),
    ),
    (
        "processes and threads of the container; clone is below, with its flags",
        (
            "fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid"
            " set_tid_address set_robust_list get_robust_list rseq arch_prctl prctl seccomp"
            " landlock_create_ruleset landlock_add_rule landlock_restrict_self getpgid getpgrp"
            " getsid setpgid setsid kill tkill tgkill pidfd_open pidfd_send_signal"
            " process_mrelease sched_yield sched_getaffinity sched_setaffinity sched_getparam"
            " sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr"
            " sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority"
            " setpriority ioprio_get ioprio_set getcpu modify_ldt set_thread_area"
            " get_thread_area"
        ),
    ),
    (
        "identity: without capabilities nothing is gained, but servers drop to another user",
        (
            "getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid"
            " setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capget capset"
            " getrlimit setrlimit prlimit64 getrusage times sysinfo uname getrandom"
        ),
    ),
    (
        "signals",
        (
            "rt_sigaction rt_sigprocmask rt_sigpending rt_sigreturn rt_sigsuspend"
            " rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack signalfd signalfd4"
            " pause alarm restart_syscall"
        ),
    ),
    (
        "reading clocks, timers, waiting",
        (
            "time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer"
            " setitimer timer_create timer_delete timer_gettime timer_settime timer_getoverrun"
            " timerfd_create timerfd_gettime timerfd_settime select pselect6 poll ppoll"
            " epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd"
            " eventfd2 futex futex_waitv futex_wake futex_wait futex_requeue"
        ),
    ),
    (
        "sockets, once socket() below has let their family pass",
        (
            "bind listen accept accept4 connect shutdown getsockname getpeername getsockopt"
            " sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg"
        ),
    ),
    (
        "pipes and System V and POSIX IPC, which have a namespace of their own",
        (
            "pipe pipe2 shmget shmat shmdt shmctl semget semop semtimedop semctl msgget"
            " msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify"
            " mq_getsetattr"
        ),
    ),
)

REFUSED_UNASKED: Final[tuple[tuple[str, str], ...]] = (
    (
        "other processes' memory and its place; few programs work on more than their own",
        (
            "process_madvise kcmp move_pages migrate_pages mbind set_mempolicy"
            " set_mempolicy_home_node"
        ),
    ),
    (
        "nobody sets the clock; asking how well it is kept is the same call",
        "adjtimex clock_adjtime",
    ),
    (
        "rare ways to watch and to name files, with a record of holes",
        "fanotify_init fanotify_mark name_to_handle_at",
    ),
)
"""By reason, the calls that fail with EPERM unless the manifest allows them."""

MAX_ATTRIBUTE_BYTES: Final = 4096
"""Of an extended attribute: what fits into a block of ext4, and so on a scratch disk.

On a tmpfs the kernel accepts 64 KiB. ACLs of that size stay in memory that no cgroup is charged
for: 128 KiB per file, whereas the file itself is charged with 1 KiB.
"""

# existing execution domains, and the value that only queries; others enable emulations
_PERSONALITIES: Final = (0x0, 0x8, 0x40000, 0x20000, 0x20008, 0xFFFF_FFFF)


def workload_seccomp(changes: Seccomp) -> dict[str, object]:
    """Return `linux.seccomp` of a container's spec.

    Args:
        changes: the container's own; its names have passed `ccinit.formats.pod.seccomp`.
    """
    allowed = [names.split() for _, names in ALLOWED]
    refused = [names.split() for _, names in (*FORBIDDEN, *REFUSED_UNASKED)]
    filtered = {
        "socket": _socket_rules(),
        "setsockopt": _option_rules(),
        "socketpair": [_rule("socketpair", _ALLOW, (0, _EQUAL, AF_UNIX, 0))],
        "clone": _clone_rules(),
        "personality": [
            _rule("personality", _ALLOW, (0, _EQUAL, value, 0)) for value in _PERSONALITIES
        ],
        **{name: _attribute_rules(name) for name in ("setxattr", "lsetxattr", "fsetxattr")},
    }
    unasked = {name for names in allowed for name in names} | filtered.keys()
    added = [name for name in changes.allow if name not in unasked]
    # a call that is not allowed anyway keeps its answer: ENOSYS makes libraries fall back
    denied = [name for name in changes.deny if name in unasked]
    rules = [
        *_plain_rules([*_without(allowed, denied), added], _ALLOW),
        *_plain_rules([*_without(refused, added), denied], _ERRNO, errno=EPERM),
        *(rule for name, own in filtered.items() if name not in denied for rule in own),
        _rule("clone3", _ERRNO, errno=ENOSYS),  # its flags are in memory, where no filter sees them
    ]
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": ENOSYS,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }


def _without(groups: Iterable[Iterable[str]], names: Iterable[str]) -> list[list[str]]:
    taken = set(names)
    return [[name for name in group if name not in taken] for group in groups]


def _plain_rules(
    groups: Iterable[Sequence[str]], action: str, errno: int | None = None
) -> list[Rule]:
    """Return a rule for each non-empty group: crun refuses a rule without names."""
    return [_rule(" ".join(group), action, errno=errno) for group in groups if group]


def _socket_rules() -> list[Rule]:
    """List the allowed families, which AF_VSOCK and AF_ALG are not among.

    The kernel reads 32 bits of the family but the filter compares 64: a list of refused families
    would let 2^32 + 40 pass as AF_VSOCK.
    """
    rules = [_rule("socket", _ALLOW, (0, _EQUAL, AF_UNIX, 0))]
    rules += _internet_rules(AF_INET) + _internet_rules(AF_INET6)
    rules.append(_rule("socket", _ALLOW, (0, _EQUAL, AF_NETLINK, 0), (2, _EQUAL, NETLINK_ROUTE, 0)))
    other_netlink = ((0, _EQUAL, AF_NETLINK, 0), (2, _GREATER, NETLINK_ROUTE, 0))
    rules.append(_rule("socket", _ERRNO, *other_netlink, errno=EPROTONOSUPPORT))
    passing = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}
    rules += [
        _rule("socket", _ERRNO, (0, _EQUAL, refused, 0), errno=EAFNOSUPPORT)
        for refused in range(AF_NETLINK)
        if refused not in passing
    ]
    rules.append(_rule("socket", _ERRNO, (0, _GREATER, AF_NETLINK, 0), errno=EAFNOSUPPORT))
    return rules


def _internet_rules(family: int) -> list[Rule]:
    """Allow streams and datagrams, and raw sockets but for TCP.

    The kernel gives a raw socket of TCP all that arrives here, loopback included: with CAP_NET_RAW
    a container would read the secrets that others fetch from the workload API, and learn what it
    takes to speak in their connections. And it makes AF_INET with SOCK_PACKET an AF_PACKET socket.
    """
    ours = (0, _EQUAL, family, 0)
    raw = (1, _MASKED, _SOCKET_TYPE, SOCK_RAW)
    return [
        *(
            _rule("socket", _ALLOW, ours, (1, _MASKED, _SOCKET_TYPE, kind))
            for kind in (SOCK_STREAM, SOCK_DGRAM)
        ),
        *(
            _rule("socket", _ALLOW, ours, raw, protocol)
            for protocol in _all_but(2, IPPROTO_TCP, _PROTOCOL_BITS)
        ),
        _rule("socket", _ERRNO, ours, raw, (2, _EQUAL, IPPROTO_TCP, 0), errno=EPERM),
        _rule("socket", _ERRNO, ours, raw, _beyond(2, _PROTOCOL_BITS), errno=EPROTONOSUPPORT),
        *(
            _rule("socket", _ERRNO, ours, (1, _MASKED, *others), errno=ESOCKTNOSUPPORT)
            for others in _OTHER_TYPES
        ),
    ]


def _option_rules() -> list[Rule]:
    """Allow all options of sockets but TCP_REPAIR.

    With it and CAP_NET_ADMIN a container could listen on a port that is taken, and get its new
    connections: those to the workload API, and to the owner's port.
    """
    tcp = (1, _EQUAL, IPPROTO_TCP, 0)
    return [
        *(_rule("setsockopt", _ALLOW, level) for level in _all_but(1, IPPROTO_TCP, _LEVEL_BITS)),
        *(
            _rule("setsockopt", _ALLOW, tcp, option)
            for option in _all_but(2, TCP_REPAIR, _OPTION_BITS)
        ),
        _rule("setsockopt", _ERRNO, tcp, (2, _EQUAL, TCP_REPAIR, 0), errno=EPERM),
        _rule("setsockopt", _ERRNO, tcp, _beyond(2, _OPTION_BITS), errno=ENOPROTOOPT),
        _rule("setsockopt", _ERRNO, _beyond(1, _LEVEL_BITS), errno=ENOPROTOOPT),
    ]


def _all_but(index: int, value: int, bits: int) -> Iterator[Condition]:
    """Yield disjoint conditions; of the numbers below 2^`bits`, all but `value` meet one of them.

    A single comparison would not do: the kernel reads 32 bits, so 2^32 + `value` is `value`, too.
    Each condition is about the numbers whose highest bit that differs is a certain one.
    """
    for bit in range(bits):
        higher = _WORD >> bit << bit
        yield (index, _MASKED, higher, (value ^ 1 << bit) & higher)


def _beyond(index: int, bits: int) -> Condition:
    return (index, _GREATER, (1 << bits) - 1, 0)


def _clone_rules() -> list[Rule]:
    """Allow clone() without new namespaces, and without children for the caller's parent.

    PID 1 is the parent of what `exec` and probes start, and of first processes in a shared PID
    namespace. It would have to collect such children, and never be done as long as they are made.
    """
    refused = (*_NEW_NAMESPACES, CLONE_PARENT)
    return [
        _rule("clone", _ALLOW, (0, _MASKED, sum(refused), 0)),
        *(_rule("clone", _ERRNO, (0, _MASKED, flag, flag), errno=EPERM) for flag in refused),
    ]


def _attribute_rules(name: str) -> list[Rule]:
    """Allow small values, and refuse large ones as the kernel refuses any beyond its limit."""
    size = 3  # the argument's index: path or descriptor, name, value, size
    return [
        _rule(name, _ALLOW, (size, _AT_MOST, MAX_ATTRIBUTE_BYTES, 0)),
        _rule(name, _ERRNO, (size, _GREATER, MAX_ATTRIBUTE_BYTES, 0), errno=E2BIG),
    ]


def _rule(names: str, action: str, *arguments: Condition, errno: int | None = None) -> Rule:
    rule: Rule = {"names": names.split(), "action": action}
    if errno is not None:
        rule["errnoRet"] = errno
    if arguments:
        rule["args"] = [
            {"index": index, "op": operator, "value": value, "valueTwo": second}
            for index, operator, value, second in arguments
        ]
    return rule
