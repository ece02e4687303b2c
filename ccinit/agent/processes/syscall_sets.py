"""The system calls of each kind of child, from named groups.

Measured with strace on the jobs of each role, then extended by what the same libraries do on other
paths (errors, slow peers, large bodies). A system call in no group kills the child; one in
`refused` fails with an errno, because libraries try it and can do without.
"""

import errno
import fcntl
import os

from ccinit.kernel.seccomp import ArgumentRule, SyscallPolicy

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
AT_EMPTY_PATH = 0x1000
CLONE_THREAD = 0x0001_0000
FD_IOCTL_NUMBERS = (0x5451, 0x5421, 0x5450, 0x541B)  # FIOCLEX, FIONBIO, FIONCLEX, FIONREAD
FS_IOC_FIEMAP = 0xC020660B
FLAGS_OF_FDS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)
OPEN_TO_CHANGE = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
SNP_GET_EXT_REPORT = 0xC0205302
TDX_CMD_GET_REPORT0 = 0xC4405401
OPTIONS_OF_CLIENTS = (1, 11, 25)  # TCP_NODELAY, IP_RECVERR, IPV6_RECVERR
PROT_EXEC = 4
TIOCSWINSZ = 0x5414
UVIO_IOCTL_ATT = 0xC0407501


def _calls(names: str) -> frozenset[str]:
    return frozenset(names.split())


COMPUTE = _calls(
    "read write close fstat lseek mremap munmap brk madvise pread64 pwrite64 readv writev "
    "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit exit_group futex "
    "sched_yield clock_gettime gettimeofday clock_nanosleep getrandom poll ppoll select pselect6 "
    "fcntl dup dup3 getpid gettid getppid getuid geteuid getgid getegid sendto recvfrom recvmsg "
    "rseq sysinfo uname"
)
"""Python working on open fds: memory, time, and the pipes and sockets that it was given.

Without sendmsg, by which a child could send PID 1 an fd. PID 1 accepts none, but the kernel would
have to close it there.

strace never shows three of these, since the vDSO usually answers without the kernel (vdso(7)). It
cannot if user space cannot read the clock, or while the hypervisor's clock is not valid.
"""

OUTPUT = _calls("ftruncate fsync fdatasync fallocate copy_file_range fadvise64")
"""Writing regular files through given fds."""

FILES = _calls(
    "openat newfstatat statx readlink readlinkat getdents64 access faccessat faccessat2 getcwd "
    "statfs mkdir rename unlink unlinkat"
)
"""Opening paths; Landlock decides which."""

SOCKETS = _calls("connect bind getsockname getpeername getsockopt shutdown")
"""Using a socket that exists."""

POLLING = _calls("epoll_create1 epoll_ctl epoll_wait")

START = _calls("execve arch_prctl set_tid_address set_robust_list prlimit64 sched_getaffinity")
"""From execve to the first line of another program."""

NO_FILES = dict.fromkeys(
    (*sorted(FILES - {"newfstatat", "mkdir", "rename", "unlink", "unlinkat"}), "open", "stat"),
    errno.EACCES,
)
"""A library that looks for a file gets an errno, and its complaint reaches the owner's log."""

NO_EXECUTABLE_MEMORY = {
    "mmap": ArgumentRule(argument=2, mask=PROT_EXEC, values=(0,), errno=errno.EACCES),
    "mprotect": ArgumentRule(argument=2, mask=PROT_EXEC, values=(0,), errno=errno.EACCES),
}
"""All code is in memory when the filter is installed."""

FD_ONLY = {
    # glibc's fstat is newfstatat with this flag.
    "newfstatat": ArgumentRule(
        argument=3, mask=AT_EMPTY_PATH, values=(AT_EMPTY_PATH,), errno=errno.EACCES
    )
}

FD_IOCTLS = {"ioctl": ArgumentRule(argument=1, values=FD_IOCTL_NUMBERS, errno=errno.ENOTTY)}


def _socket_rule(*domains: int) -> dict[str, ArgumentRule]:
    return {"socket": ArgumentRule(argument=0, values=domains, errno=errno.EAFNOSUPPORT)}


PARSER = SyscallPolicy(
    allowed=COMPUTE | OUTPUT,
    refused=NO_FILES,
    rules=NO_EXECUTABLE_MEMORY | FD_IOCTLS | FD_ONLY,
)
"""Bytes in, bytes out, through fds."""

ATTESTER = SyscallPolicy(
    allowed=COMPUTE | OUTPUT,
    refused=NO_FILES,
    rules=NO_EXECUTABLE_MEMORY
    | FD_ONLY
    | {
        "ioctl": ArgumentRule(
            argument=1,
            values=(
                *FD_IOCTL_NUMBERS,
                SNP_GET_EXT_REPORT,
                TDX_CMD_GET_REPORT0,
                UVIO_IOCTL_ATT,
            ),
            errno=errno.ENOTTY,
        )
    },
)
"""The same with the platform's device."""

APPENDER = SyscallPolicy(
    allowed=COMPUTE - {"fcntl", "pwrite64"},
    refused=NO_FILES,
    rules=NO_EXECUTABLE_MEMORY
    | FD_IOCTLS
    | FD_ONLY
    | {"fcntl": ArgumentRule(argument=1, values=FLAGS_OF_FDS, errno=errno.EPERM)},
)
"""The same, but data written through an append-only fd stays as it is: O_APPEND cannot be cleared,
nor the file truncated, punched, or written to at a chosen offset."""

TREE_WALK = SyscallPolicy(
    allowed=COMPUTE
    | _calls("openat newfstatat readlink getdents64 chdir fchdir")
    | _calls("getxattr fgetxattr listxattr flistxattr"),
    rules=NO_EXECUTABLE_MEMORY
    | {
        "ioctl": ArgumentRule(
            argument=1, values=(*FD_IOCTL_NUMBERS, FS_IOC_FIEMAP), errno=errno.ENOTTY
        )
    },
)
"""Looking at a mounted tree. The role has capabilities, so this is short."""

NETLINK = SyscallPolicy(
    allowed=COMPUTE | SOCKETS | POLLING | _calls("setsockopt"),
    # asyncio, which pyroute2 runs on, asks for it from Python 3.14 on, and does without.
    refused=NO_FILES | {"pidfd_open": errno.EPERM},
    rules=NO_EXECUTABLE_MEMORY
    | FD_IOCTLS
    | FD_ONLY
    | _socket_rule(AF_NETLINK)
    # asyncio wakes itself through a pair of its own.
    | {"socketpair": ArgumentRule(argument=0, values=(AF_UNIX,), errno=errno.EAFNOSUPPORT)},
)
"""One netlink socket."""

TLS_SERVER = SyscallPolicy(
    allowed=COMPUTE | _calls("memfd_create"),
    refused={name: number for name, number in NO_FILES.items() if name != "openat"},
    rules=NO_EXECUTABLE_MEMORY
    | FD_ONLY
    | {
        "ioctl": ArgumentRule(
            argument=1, values=(*FD_IOCTL_NUMBERS, TIOCSWINSZ), errno=errno.ENOTTY
        ),
        # Python's ssl takes a key by path alone: /proc/self/fd/N of a memory file, to be read.
        "openat": ArgumentRule(argument=2, mask=OPEN_TO_CHANGE, values=(0,), errno=errno.EACCES),
    },
)
"""TLS and streams on given fds. Landlock leaves only the child's own memory files to open."""

# getaddrinfo asks the kernel by netlink which address families there are, and sends both its
# queries to a name server by one sendmmsg, which can pass an fd, too. Sockets closed that way must
# close at once, so SO_LINGER is not among the options.
TLS_CLIENT = SyscallPolicy(
    allowed=COMPUTE | OUTPUT | SOCKETS | POLLING | FILES | _calls("sendmmsg"),
    rules=NO_EXECUTABLE_MEMORY
    | FD_IOCTLS
    | _socket_rule(AF_INET, AF_INET6, AF_NETLINK)
    | {"setsockopt": ArgumentRule(argument=2, values=OPTIONS_OF_CLIENTS, errno=errno.EACCES)},
)
"""Name resolution, TCP, TLS, and files given by fd."""

TLS_CLIENT_WITH_KEY = SyscallPolicy(
    allowed=TLS_CLIENT.allowed | _calls("memfd_create"), rules=TLS_CLIENT.rules
)
"""The same with a key (a certificate of its own, the guest's identity to look at), which Python's
ssl takes by path alone."""

PROGRAM = SyscallPolicy(
    # From version 1.9 on, mkfs.erofs uses pwritev instead of pwrite64 and writev.
    allowed=COMPUTE | OUTPUT | FILES | START | _calls("mmap mprotect ioctl umask pwritev"),
    # Without clone3, glibc creates threads by clone, whose flags a filter can check.
    refused={"clone3": errno.ENOSYS, "socket": errno.EAFNOSUPPORT, "prctl": errno.EPERM},
    rules={
        "clone": ArgumentRule(
            argument=0, mask=CLONE_THREAD, values=(CLONE_THREAD,), errno=errno.EPERM
        )
    },
)
"""One of the image's programs, on files of its workspace. Threads, but no processes."""

STARTER = SyscallPolicy(
    allowed=PROGRAM.allowed | _calls("clone pipe2 seccomp wait4"), refused=PROGRAM.refused
)
"""The same for a child that starts a program more than once, each under `PROGRAM` as well."""
