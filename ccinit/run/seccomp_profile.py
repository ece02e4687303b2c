"""The system calls of a workload: what it may call, what it is refused, and why (R73).

Scope: one profile for every container, in the form of the OCI runtime spec (config-linux.md,
"Seccomp"). Left to others: loading it (`crun` with libseccomp); the guest's own children have
much smaller filters of their own.

Three answers: listed calls are allowed; calls that a workload must not have get EPERM, socket
families EAFNOSUPPORT, as if the kernel lacked them; everything else, so every call that a later
kernel adds, gets ENOSYS, on which C libraries fall back to older calls. 32-bit calls, and
`socketcall` with them, end the process: only one architecture is named.
"""

from typing import Final, TypeAlias

Rule: TypeAlias = dict[str, object]

EPERM: Final = 1
ENOSYS: Final = 38
EPROTONOSUPPORT: Final = 93
EAFNOSUPPORT: Final = 97

AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
AF_ALG: Final = 38
AF_VSOCK: Final = 40
NETLINK_ROUTE: Final = 0

# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_NEW_NAMESPACES: Final = tuple(1 << bit for bit in (17, 25, 26, 27, 28, 29, 30))

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
            " newfstatat statx statfs fstatfs ustat readlink readlinkat getdents getdents64"
            " getcwd chdir fchdir chroot mkdir mkdirat rmdir unlink unlinkat rename renameat"
            " renameat2 link linkat symlink symlinkat mknod mknodat truncate umask chmod"
            " fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat"
            " futimesat getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr"
            " llistxattr flistxattr removexattr lremovexattr fremovexattr inotify_init"
            " inotify_init1 inotify_add_watch inotify_rm_watch"
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
            " setsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg"
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

REFUSED: Final[tuple[tuple[str, str], ...]] = (
    (
        "the mount tree and the root: the spec is all there is to see",
        (
            "mount umount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen"
            " fsconfig fsmount fspick pivot_root statmount listmount"
        ),
    ),
    ("new namespaces give capabilities over what is inside them", "unshare setns"),
    (
        "large and young kernel interfaces with a record of holes",
        "io_uring_setup io_uring_enter io_uring_register bpf userfaultfd perf_event_open",
    ),
    ("the kernel's keyrings are not namespaced", "add_key request_key keyctl"),
    (
        "other processes' memory and descriptors; a debugger comes with its owner's grant",
        (
            "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp"
            " move_pages migrate_pages mbind set_mempolicy set_mempolicy_home_node"
        ),
    ),
    (
        "the machine: time, modules, power, swap, ports, accounting, its log",
        (
            "settimeofday clock_settime clock_adjtime adjtimex stime init_module finit_module"
            " delete_module create_module kexec_load kexec_file_load reboot swapon swapoff"
            " ioperm iopl acct quotactl quotactl_fd syslog sethostname setdomainname vhangup"
            " nfsservctl uselib lookup_dcookie fanotify_init fanotify_mark"
        ),
    ),
    (
        "files by handle reach around every mount",
        "name_to_handle_at open_by_handle_at",
    ),
)

# execution domains that exist, and the "tell me" value; others switch on emulations
_PERSONALITIES: Final = (0x0, 0x8, 0x40000, 0x20000, 0x20008, 0xFFFF_FFFF)


def workload_seccomp() -> dict[str, object]:
    """Return `linux.seccomp` of every container's spec."""
    rules: list[Rule] = [_rule(names, "SCMP_ACT_ALLOW") for _, names in ALLOWED]
    rules += [_rule(names, "SCMP_ACT_ERRNO", errno=EPERM) for _, names in REFUSED]
    rules += _socket_rules()
    rules += _clone_rules()
    rules += [
        _rule("personality", "SCMP_ACT_ALLOW", (0, "SCMP_CMP_EQ", value, 0))
        for value in _PERSONALITIES
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }


def _socket_rules() -> list[Rule]:
    """Name the families that pass, so that AF_VSOCK and AF_ALG are among those that do not.

    The kernel reads 32 bits of the family and the filter compares 64: a rule that only named what
    is refused would let 2^32 + 40 through as AF_VSOCK.
    """
    family = "SCMP_CMP_EQ"
    rules = [
        _rule("socket", "SCMP_ACT_ALLOW", (0, family, allowed, 0))
        for allowed in (AF_UNIX, AF_INET, AF_INET6)
    ]
    rules.append(
        _rule("socket", "SCMP_ACT_ALLOW", (0, family, AF_NETLINK, 0), (2, family, NETLINK_ROUTE, 0))
    )
    other_netlink = ((0, family, AF_NETLINK, 0), (2, "SCMP_CMP_GT", NETLINK_ROUTE, 0))
    rules.append(_rule("socket", "SCMP_ACT_ERRNO", *other_netlink, errno=EPROTONOSUPPORT))
    rules.append(_rule("socketpair", "SCMP_ACT_ALLOW", (0, family, AF_UNIX, 0)))
    passing = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}
    rules += [
        _rule("socket", "SCMP_ACT_ERRNO", (0, family, refused, 0), errno=EAFNOSUPPORT)
        for refused in range(AF_NETLINK)
        if refused not in passing
    ]
    above = (0, "SCMP_CMP_GT", AF_NETLINK, 0)
    rules.append(_rule("socket", "SCMP_ACT_ERRNO", above, errno=EAFNOSUPPORT))
    return rules


def _clone_rules() -> list[Rule]:
    """Allow clone() without new namespaces; clone3() has its flags in memory, out of sight."""
    rules = [
        _rule("clone", "SCMP_ACT_ALLOW", (0, "SCMP_CMP_MASKED_EQ", sum(_NEW_NAMESPACES), 0)),
        _rule("clone3", "SCMP_ACT_ERRNO", errno=ENOSYS),
    ]
    rules += [
        _rule("clone", "SCMP_ACT_ERRNO", (0, "SCMP_CMP_MASKED_EQ", flag, flag), errno=EPERM)
        for flag in _NEW_NAMESPACES
    ]
    return rules


def _rule(
    names: str, action: str, *arguments: tuple[int, str, int, int], errno: int | None = None
) -> Rule:
    rule: Rule = {"names": names.split(), "action": action}
    if errno is not None:
        rule["errnoRet"] = errno
    if arguments:
        rule["args"] = [
            {"index": index, "op": operator, "value": value, "valueTwo": second}
            for index, operator, value, second in arguments
        ]
    return rule
