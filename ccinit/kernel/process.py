"""Child processes: spawn, watch, collect; the only table of owned ones. `agent` limits rights.

A child is spawned with vfork semantics (posix_spawn): no copy of PID 1's memory, and so of its
keys, ever exists in it. It gets /dev/null on 0, 1 and 2, the listed fds and nothing else, a session
of its own, and no blocked or ignored signals. Python opens every fd close-on-exec (PEP 446); what
was inherited or opened by a library is made so before each spawn.

Each owned child is reaped through its pidfd, never by pid, so a status cannot go to the wrong
waiter. Orphans that the kernel hands to PID 1 are found by `waitid(P_ALL)` with WNOWAIT, which only
peeks; if the child is owned, its status goes into the owner's `Process`, else it is dropped.
"""

import errno
import fcntl
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ccinit.errors import KernelError
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import readable
from ccinit.kernel.libc import kernel_error, syscall
from ccinit.values import frozen

CLOSE_RANGE_CLOEXEC = 4
FIRST_TEMPORARY_FD = 64  # above every number that a child is given
LAST_FD = 0xFFFF_FFFF
NR_CLOSE_RANGE = 436
NULL_DEVICE = "/dev/null"
STANDARD_FDS = (0, 1, 2)

_RESET_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


@frozen
class ExitStatus:
    """How a process ended: by `code`, or by `signal` if that is not zero."""

    code: int
    signal: int

    def is_success(self) -> bool:
        """Return whether it exited with code 0."""
        return self.code == 0 and self.signal == 0

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal else f"exit code {self.code}"


class Process:
    """One owned child, until `wait` has its status or `disown` leaves it to `reap_orphans`."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.status: ExitStatus | None = None
        _owned[pid] = self
        _disowned.discard(pid)

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; one that has ended is left alone.

        Raises:
            KernelError: not allowed to.
        """
        if self.status is not None:
            return
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return
        except OSError as error:
            raise kernel_error(error, "pidfd_send_signal", str(self.pid)) from error

    def collect(self) -> ExitStatus | None:
        """Return the exit status, or None while it runs."""
        if self.status is None:
            found = _waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
            if found is not None:
                self._keep(found)
        return self.status

    async def wait(self) -> ExitStatus:
        """Wait for the end and return the exit status."""
        while (status := self.collect()) is None:
            await readable(self.pidfd)
        self.disown()
        return status

    def disown(self) -> None:
        """Free the pidfd; a child that was not collected is left to `reap_orphans`."""
        if self.pidfd < 0:
            return
        if self.status is None:  # else the pid may be another process by now
            del _owned[self.pid]
            _disowned.add(self.pid)
        os.close(self.pidfd)
        self.pidfd = -1

    def _keep(self, found: os.waitid_result) -> None:
        exited = found.si_code == os.CLD_EXITED
        self.status = ExitStatus(
            code=found.si_status if exited else 0, signal=0 if exited else found.si_status
        )
        del _owned[self.pid]  # from here on the pid may be another process


# The kernel has one list of children for each process; so has this module.
_owned: dict[int, Process] = {}
_disowned: set[int] = set()  # and not collected yet, so these pids are still theirs
_keepers = 0


def spawn(
    arguments: Sequence[str], environment: Mapping[str, str], fds: Mapping[int, int]
) -> Process:
    """Start the program `arguments[0]` (an absolute path) with `fds` as {number there: fd here}.

    Raises:
        KernelError: no such program, or no process or descriptor left.
    """
    syscall(
        NR_CLOSE_RANGE, len(STANDARD_FDS), LAST_FD, CLOSE_RANGE_CLOEXEC, operation="close_range"
    )
    temporary: list[int] = []
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    try:
        actions.extend(
            (os.POSIX_SPAWN_OPEN, number, NULL_DEVICE, os.O_RDWR, 0)
            for number in STANDARD_FDS
            if number not in fds
        )
        for number, source in fds.items():
            # First out of the way: a source may have the number that another target needs.
            temporary.append(_duplicate(source))
            actions.append((os.POSIX_SPAWN_DUP2, temporary[-1], number))
        pid = os.posix_spawn(
            arguments[0],
            list(arguments),
            dict(environment),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_RESET_SIGNALS,
        )
    except OSError as error:
        raise kernel_error(error, "posix_spawn", arguments[0]) from error
    finally:
        close_all(temporary)
    return _own_spawned(pid)


def adopt(pid: int) -> Process:
    """Own a child that another program made and the kernel re-parented to this process.

    Raises:
        KernelError: `pid` does not exist or is no child of this process.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise kernel_error(error, "pidfd_open", str(pid)) from error
    try:
        _waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except KernelError:
        os.close(pidfd)
        raise
    return Process(pid, pidfd)


@contextmanager
def keeping_orphans() -> Iterator[None]:
    """Reap no orphan within the block: one of them is about to be adopted.

    If a program leaves a child behind, its caller adopts the child by pid once the program has
    ended. A child that ends before that would be reaped as an orphan, and its status lost. Disowned
    children will never be adopted, so they are reaped even now: such blocks can overlap without
    end.
    """
    global _keepers  # noqa: PLW0603  # see `_owned`
    _keepers += 1
    try:
        yield
    finally:
        _keepers -= 1
        if not _keepers:
            reap_orphans()


def reap_orphans() -> int:
    """Collect every ended child; return how many were not owned. To be called after SIGCHLD."""
    if _keepers:  # owned children are reaped by those that wait for them
        return sum(_collect_orphan(pid) for pid in tuple(_disowned))
    orphans = 0
    while (found := _look(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        owner = _owned.get(found.si_pid)
        if owner is not None:
            owner.collect()
        else:
            orphans += _collect_orphan(found.si_pid)
    return orphans


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_TEMPORARY_FD)


def _own_spawned(pid: int) -> Process:
    try:
        return Process(pid, os.pidfd_open(pid))
    except OSError as error:
        # Not collected yet, so the pid is still that child's and nobody else's.
        os.kill(pid, signal.SIGKILL)
        _waitid(os.P_PID, pid, os.WEXITED)
        raise kernel_error(error, "pidfd_open", str(pid)) from error


def _collect_orphan(pid: int) -> bool:
    """Collect a child that is not owned; return whether it had ended."""
    if _look(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None:
        return False
    _disowned.discard(pid)
    return True


def _look(kind: int, target: int, options: int) -> os.waitid_result | None:
    """Return what `_waitid` does, and None also if there is no such child."""
    try:
        return _waitid(kind, target, options)
    except KernelError as error:
        if error.errno == errno.ECHILD:
            return None
        raise


def _waitid(kind: int, target: int, options: int) -> os.waitid_result | None:
    try:
        return os.waitid(kind, target, options)
    except OSError as error:
        raise kernel_error(error, "waitid", str(target)) from error
