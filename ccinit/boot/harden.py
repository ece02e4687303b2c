"""Kernel settings of a running guest, as one table, and their writing.

The measured command line has closed what only it can close (consoles, lockdown, module signatures),
and says what profiles differ in: `prod` does not go on behind an oops, `test` seals its text. These
are the rest. Each row says which way out of the guest or into the kernel it shuts, or what a
container must not use up. Module loading is already off: stage 0 does that when the last module is
in.
"""

import resource

from ccinit.kernel.resource_limits import protect_from_oom, set_core_limit, set_limit
from ccinit.kernel.sysctl import write_sysctl
from ccinit.values import frozen

_MOST_INT = (1 << 31) - 1
_MOST_LONG = (1 << 63) - 1
_MOST_PIDS = 1 << 22
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""
_MAPPINGS = 1 << 20
"""What desktop and server distributions set by now; Elasticsearch refuses to run below 2^18."""
OPEN_FILES = 4096
"""What the kernel lets PID 1 have (INR_OPEN_MAX) and does not give it: it starts with a quarter.

The probes of the largest manifest and the streams of the owner may take some 1 700 at once, and a
probe that finds no descriptor is a container that does not answer.
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
    # Who opens a file on which another has a lease waits for 45 seconds, PID 1 as well: where it
    # erases a secret, say. A container can have one on each file of its own user's that it can
    # read, those that all containers see included. Programs that ask for leases can do without.
    Setting("fs.leases-enable", "0", "nobody keeps others from opening a file"),
    # Of every link, and of those to come: what was offered was verified; a neighbour's word is not.
    Setting("net.ipv4.conf.*.accept_redirects", "0", "routes are those of the offer"),
    Setting("net.ipv6.conf.*.accept_redirects", "0", "routes are those of the offer"),
    Setting("net.ipv6.conf.*.accept_ra", "0", "addresses and routes are those of the offer"),
    # Tunnels are narrower than the links before them, and the ICMP that would say so is often
    # dropped. Evidence is the first of what a guest sends that is larger than a packet.
    Setting("net.ipv4.tcp_mtu_probing", "1", "TCP of both families finds narrower ways by itself"),
    # A small number is no office: PID 1 has taken its own ports before any container runs, and who
    # may have the others the containers of a pod agree on among themselves, as they do elsewhere.
    # Sockets for pings (ping_group_range), which engines open with these, stay closed: they are
    # kernel code that nothing else reaches, and few need it.
    Setting("net.ipv4.ip_unprivileged_port_start", "0", "plain users serve where images say"),
    # The kernel counts these for the whole guest, or for a user in PID 1 and all containers. One of
    # these within its own limits could take all; what it takes is its own memory besides.
    Setting("fs.aio-max-nr", str(_MOST_LONG), "containers can begin asynchronous I/O"),
    Setting("fs.epoll.max_user_watches", str(_MOST_LONG), "PID 1 can wait for descriptors"),
    Setting("fs.file-max", str(_MOST_LONG), "PID 1's children can open files"),
    Setting("fs.inotify.max_user_instances", str(_MOST_INT), "containers of one user can watch"),
    Setting("fs.inotify.max_user_watches", str(_MOST_INT), "containers of one user can watch"),
    Setting("kernel.pid_max", str(_MOST_PIDS), "PID 1 can start children"),
    Setting("kernel.pty.max", str(_MOST_INT), "the owner can open a terminal anywhere"),
    Setting("kernel.threads-max", str(_MOST_PIDS), "PID 1 can start children"),
    # Of one process; each mapping is its own container's memory. Elsewhere whoever has the machine
    # sets it for programs that ask for more than the kernel's default, and here nobody else could.
    Setting("vm.max_map_count", str(_MAPPINGS), "search engines and large heaps start"),
)


def harden(settings: tuple[Setting, ...] = SETTINGS) -> None:
    """Write every setting and the limits of PID 1 itself.

    Raises:
        KernelError: the kernel refused one; the boot ends there.
    """
    for setting in settings:
        write_sysctl(setting.name, setting.value)
    set_core_limit()
    set_limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    protect_from_oom()
