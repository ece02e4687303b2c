"""Kernel settings of a running guest: one table, and the code that writes them.

The measured command line has settled what only it can (consoles, lockdown, module signatures), and
where profiles differ: `prod` does not continue after an oops, `test` seals the oops's text. These
are the rest. Each row says which way out of the guest or into the kernel it closes, or what a
container must not use up. Stage 0 has already disabled module loading.
"""

import resource

from ccinit.kernel.resource_limits import OOM_SCORE_ADJ_MIN, set_limit, write_oom_score
from ccinit.kernel.sysctl import write_sysctl
from ccinit.values import frozen

_MAX_INT = (1 << 31) - 1
_MAX_LONG = (1 << 63) - 1
_MAX_PIDS = 1 << 22
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""
_MAPPINGS = 1 << 20
"""As distributions set it nowadays; Elasticsearch refuses to run below 2^18."""
OPEN_FILES = 4096
"""The most that the kernel allows PID 1 (INR_OPEN_MAX); it starts with a quarter of that.

The probes of the largest manifest and the owner's streams may take some 1 700 at once, and a probe
without a descriptor would count as a container that does not answer.
"""


@frozen(kw_only=False)
class Setting:
    """One file below /proc/sys, its value and why."""

    name: str
    value: str
    why: str


SETTINGS = (
    Setting("kernel.printk", "0 0 0 0", "no kernel text on any console"),
    Setting("kernel.sysrq", "0", "no dumps on request of the console's owner"),
    Setting("kernel.kexec_load_disabled", "1", "no other kernel"),
    Setting("kernel.dmesg_restrict", "1", "containers do not read the kernel log"),
    Setting("kernel.kptr_restrict", "2", "no kernel addresses"),
    Setting("kernel.core_pattern", "", "no core files"),
    Setting("fs.suid_dumpable", "0", "no dumps of privileged programs"),
    Setting("kernel.unprivileged_bpf_disabled", "1", "no BPF in containers"),
    Setting("net.core.bpf_jit_harden", "2", "no JIT spraying"),
    Setting("kernel.perf_event_paranoid", "3", "no perf in containers"),
    Setting("kernel.yama.ptrace_scope", "3", "nobody traces anybody"),
    Setting("vm.unprivileged_userfaultfd", "0", "no paused page faults"),
    Setting("kernel.io_uring_disabled", "2", "no io_uring"),
    Setting("user.max_user_namespaces", "0", "containers make no user namespaces"),
    Setting("vm.oom_dump_tasks", "0", "no process list in the kernel log"),
    Setting("fs.protected_symlinks", "1", "no symlink races in sticky directories"),
    Setting("fs.protected_hardlinks", "1", "no hard links to others' files"),
    Setting("fs.protected_fifos", "2", "no FIFO races in sticky directories"),
    Setting("fs.protected_regular", "2", "no file races in sticky directories"),
    # Opening a file on which another process has a lease blocks for 45 seconds, even PID 1, which
    # may be erasing a secret. A container can take a lease on every file that its user owns and can
    # read, even on those that all containers see. Programs that use leases can do without.
    Setting("fs.leases-enable", "0", "nobody keeps others from opening a file"),
    # For every link, and future ones: the offer was verified, a neighbour's redirect is not.
    Setting("net.ipv4.conf.*.accept_redirects", "0", "routes are those of the offer"),
    Setting("net.ipv6.conf.*.accept_redirects", "0", "routes are those of the offer"),
    Setting("net.ipv6.conf.*.accept_ra", "0", "addresses and routes are those of the offer"),
    # A tunnel's MTU is smaller than that of the link before it, and the ICMP message that would say
    # so is often dropped. Evidence is the first thing a guest sends that exceeds a packet.
    Setting("net.ipv4.tcp_mtu_probing", "1", "TCP of both families finds narrower ways by itself"),
    # Low ports carry no authority here: PID 1 binds its own before any container runs, and the
    # pod's containers share the others as they do elsewhere. Ping sockets (ping_group_range), which
    # engines allow together with these, stay disabled: few need them, and they would expose kernel
    # code that is otherwise unreachable.
    Setting("net.ipv4.ip_unprivileged_port_start", "0", "plain users serve where images say"),
    # The kernel counts these for the whole guest, or per user across PID 1 and all containers. A
    # container within its own limits could use up the default; what it takes is also charged to its
    # own memory.
    Setting("fs.aio-max-nr", str(_MAX_LONG), "containers can begin asynchronous I/O"),
    Setting("fs.epoll.max_user_watches", str(_MAX_LONG), "PID 1 can wait for descriptors"),
    Setting("fs.file-max", str(_MAX_LONG), "PID 1's children can open files"),
    Setting("fs.inotify.max_user_instances", str(_MAX_INT), "containers of one user can watch"),
    Setting("fs.inotify.max_user_watches", str(_MAX_INT), "containers of one user can watch"),
    Setting("kernel.pid_max", str(_MAX_PIDS), "PID 1 can start children"),
    Setting("kernel.pty.max", str(_MAX_INT), "the owner can open a terminal anywhere"),
    Setting("kernel.threads-max", str(_MAX_PIDS), "PID 1 can start children"),
    # Per process; each mapping is charged to its container. Elsewhere the machine's administrator
    # raises this for programs that need more than the kernel's default; here nobody else could.
    Setting("vm.max_map_count", str(_MAPPINGS), "search engines and large heaps start"),
)


def harden(settings: tuple[Setting, ...] = SETTINGS) -> None:
    """Write every setting and the limits of PID 1 itself.

    Raises:
        KernelError: the kernel refused one; the boot must end.
    """
    for setting in settings:
        write_sysctl(setting.name, setting.value)
    set_limit(resource.RLIMIT_CORE, 0)
    set_limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    write_oom_score(OOM_SCORE_ADJ_MIN)  # the end of PID 1 is a panic
