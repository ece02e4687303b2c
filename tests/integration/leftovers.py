"""What failed or killed tests could leave behind, on the machine and in their process."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import AnyStr, Final

import pytest

from ccinit.kernel.libc import check, libc
from ccinit.kernel.mount import MountFlag, mount
from ccinit.kernel.process import Process

CLONE_NEWNS: Final = 0x0002_0000
_SLAVE: Final = MountFlag(1 << 14 | 1 << 19)  # MS_REC, MS_SLAVE
_OURS: Final = "ccinit-test-"


def have_own_mounts() -> None:
    """Have what this process and its children mount vanish with the last of them."""
    check(libc.unshare(CLONE_NEWNS), "unshare", "mounts")
    mount("none", "/", "", _SLAVE)


def remove_dead_cgroups() -> None:
    """Remove the cgroups of PID namespaces that are no more, and of ended processes of this one.

    Their names have the number of the namespace, see `tests.vm.guest.containers.own_cgroup`, and
    those of `tests.integration.host.cgroups.made_cgroup` that of a process, too.
    """
    found = [path for root in cgroup_roots() for path in root.glob(f"{_OURS}*")]
    living = set(pid_namespaces())  # by now: a run may have begun since
    for path in found:
        namespace, _, pid = path.name.removeprefix(_OURS).partition("-")
        is_ours = int(namespace) == Path("/proc/self/ns/pid").stat().st_ino
        if int(namespace) not in living or (is_ours and pid and not Path("/proc", pid).exists()):
            for one in sorted(path.glob("**/"), reverse=True):
                with suppress(FileNotFoundError):  # another run has begun to remove them, too
                    one.rmdir()


def pid_namespaces() -> Iterator[int]:
    """The numbers of those that have processes."""
    for path in Path("/proc").glob("[0-9]*/ns/pid"):
        with suppress(OSError):  # a process has ended meanwhile
            yield path.stat().st_ino


def cgroup_roots() -> list[Path]:
    """Where hierarchies of either version are mounted, those without a controller, too."""
    rows = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return list({Path(row[1]): None for row in rows if row[2] in {"cgroup", "cgroup2"}})


def children() -> dict[int, str]:
    """The ids of this process's children with their names and states: "sh, Z" has ended unwaited.

    The list is whole: of it, only a wait of ours takes a child away.
    """
    found = {}
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread has ended meanwhile, and left its children to another
            for pid in map(int, listed.read_text().split()):
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
                found[pid] = f"{name.partition('(')[2]}, {rest.split()[0]}"
    return found


@contextmanager
def leaving_no_children() -> Iterator[None]:
    """Fail if the block leaves a child, running or not waited for; it is gone in any case.

    Left alone, it would be found by whoever looks at all children of this process.
    """
    before = children()
    yield
    left = {pid: told for pid, told in children().items() if pid not in before}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left, f"children that nobody waited for: {left}"


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder whose path is short enough for engines' sockets; it is gone in any case."""
    with TemporaryDirectory(prefix="ccinit-") as name:
        yield Path(name)


@contextmanager
def awaited(process: Popen[AnyStr]) -> Iterator[Popen[AnyStr]]:
    """Wait for the end of a process; if the block fails, it is ended, or we might wait for ever."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@contextmanager
def reaping_orphans() -> Iterator[None]:
    """Wait at the end for the children that the code under test has let go of, as PID 1 does.

    A job of a child that is interrupted while it buries the child leaves that to the reaper.
    """
    let_go: set[int] = set()
    disown = Process.disown

    def note(process: Process) -> None:
        if process.status is None:
            let_go.add(process.pid)
        disown(process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Process, "disown", note)
        yield
    for pid in let_go & children().keys():  # but for those that the test has waited for
        os.waitpid(pid, 0)
