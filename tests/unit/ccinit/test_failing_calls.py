"""Work in which the kernel refuses one call, each in turn.

Whoever asked for it is told by the kernel's family and number, so nobody else is blamed; nothing
stays open, and what was there before is still whole.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from ccinit.agent.planes.owner_streams import open_outgoing
from ccinit.agent.processes.secret_pipes import open_secret_pipes
from ccinit.boot.directories import make_directory, write_file
from ccinit.errors import FormatError, KernelError
from ccinit.kernel.block import read_direct, write_direct, zero_direct
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.kmsg import KernelLog
from ccinit.kernel.memory_file import open_memory_file
from ccinit.kernel.pipes import open_pipes, open_socket_pair
from ccinit.pull.erofs.handover import lend, seal
from ccinit.run.files import open_file
from ccinit.run.image_volumes import find_image_volumes
from ccinit.run.rootfs import activate_rootfs, check_mount_points
from ccinit.run.secrets import erase_secrets, replace_secrets, write_secrets
from ccinit.run.stdio import open_outputs
from ccinit.run.user_files import find_identity
from ccinit.run.users import Identity
from ccinit.run.workload import SecretFile
from ccinit.secret import Secret
from ccinit.unlock.rollback import read_counter, write_counter
from tests.fakes.machine.failing_calls import FailingCall, each_failing_call
from tests.fakes.machine.no_waiting import finish
from tests.fakes.machine.scarcity import count_descriptors
from tests.fakes.machine.user_child import play_user_child

ERRNOS = (errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ENOSPC)
ME = Identity(uid=os.geteuid(), gid=os.getegid(), additional_gids=(), home="/")
ROOT = Identity(uid=0, gid=0, additional_gids=(), home="/")


def directories(work: Path) -> None:
    make_directory(f"{work}/made", 0o711)
    write_file(f"{work}/hosts", "127.0.0.1 localhost\n")


def disk(work: Path) -> None:
    node = str(work / "disk")
    write_direct(node, 0, b"x" * 4096)
    zero_direct(node, [(4096, 4096), (8192, 4096)])
    assert read_direct(node, 0, 8192) == b"x" * 4096 + bytes(4096)


def image_root(work: Path) -> None:
    root = os.open(work / "root", os.O_PATH | os.O_DIRECTORY)
    try:
        check_mount_points(root)
        assert finish(find_identity(root, "root", play_user_child)) == ROOT
        assert len(find_image_volumes(root, str(work / "root"), ("/srv/db", "/etc"), ())) == 2
    finally:
        os.close(root)


def container_root(work: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccinit.run.rootfs.mount_overlay", lambda *_: None)
        activate_rootfs((str(work),), f"{work}/scratch", f"{work}/target")


def container_file(work: Path) -> None:
    for path in (f"{work}/new", f"{work}/disk"):
        os.close(open_file(os.getpid(), path, into=True, mode=0o600, owner=ME))


def layers(work: Path) -> None:
    lend(str(work), ["disk"], os.geteuid())
    seal(str(work), ["disk"])


def pipes(_work: Path) -> None:
    for make in (open_pipes, open_outputs):
        for pipe in make(2):
            pipe.close()
    close_all(fd for pipe in open_outgoing(2) for fd in (pipe.reader, pipe.writer))
    close_all(open_secret_pipes({"a": Secret(b"a"), "b": Secret(b"b")}).values())
    for end in open_socket_pair():
        end.close()
    os.close(open_memory_file("copy", b"header"))


def kernel_log(work: Path) -> None:
    log = KernelLog(str(work / "kmsg"))
    try:
        assert log.read() is not None
    finally:
        log.close()


def places(folder: Path) -> Iterator[tuple[Path, FailingCall]]:
    """A place for each attempt, with what the works find there."""
    for number, failing in enumerate(each_failing_call(*ERRNOS)):
        work = folder / str(number)
        for name in ("proc", "etc"):
            (work / "root" / name).mkdir(parents=True)
        (work / "root/etc/passwd").write_text("root:x:0:0::/:\n")
        (work / "disk").write_bytes(bytes(1 << 16))
        (work / "kmsg").write_bytes(b"6,1,1,-;text\n")
        yield work, failing


@pytest.mark.parametrize(
    "part",
    [directories, disk, image_root, container_root, container_file, layers, pipes, kernel_log],
)
def test_refused_call_is_what_the_caller_is_told(
    tmp_path: Path, part: Callable[[Path], None]
) -> None:
    before = count_descriptors()
    for work, failing in places(tmp_path):
        failing.verify(failing.attempt(partial(part, work)))
        assert count_descriptors() == before, failing


def test_secret_that_cannot_be_replaced_is_the_old_one_and_none_outlives_its_container(
    tmp_path: Path,
) -> None:
    def file(content: bytes) -> SecretFile:
        return SecretFile(path="/run/key", mode=0o400, content=Secret(content), rotates=True)

    old, new = (file(b"the old"),), (file(b"the new"),)
    for work, failing in places(tmp_path):
        directory = f"{work}/secrets"
        (bind,) = write_secrets(directory, old, ME)
        failure = failing.attempt(partial(replace_secrets, directory, old, new, ME))
        failing.verify(failure)
        expected = b"the new" if failure is None else b"the old"
        assert Path(bind.source, "key").read_bytes() == expected, failing
        replace_secrets(directory, old, new, ME)  # nothing is in its way
        erase_secrets(directory)
        assert not Path(directory).exists()


def test_counter_that_cannot_be_written_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    for work, failing in places(tmp_path):
        write_counter(str(work), 1)
        failure = failing.attempt(partial(write_counter, str(work), 2))
        assert read_counter(str(work)) in ((2,) if failure is None else (1, 2)), failing
        write_counter(str(work), 3)
        assert read_counter(str(work)) == 3


@pytest.mark.parametrize(
    ("work", "seen"),
    [
        pytest.param(lambda _: Path("/").stat(), None, id="a call of the test's own"),
        pytest.param(lambda folder: open_memory_file(folder.name, b""), "memfd", id="refused"),
    ],
)
def test_harness_refuses_the_guests_own_calls_only(
    tmp_path: Path, work: Callable[[Path], object], seen: str | None
) -> None:
    failing = FailingCall(1, errno.EIO)
    failure = failing.attempt(partial(work, tmp_path))
    failing.verify(failure)
    assert (seen or "") in str(failure)
    assert (failure is None) == (seen is None)


def test_harness_sees_who_goes_on_and_who_blames_somebody_else() -> None:
    def forgive() -> None:
        with suppress(KernelError):
            open_pipes(1)

    def blame() -> None:
        try:
            open_pipes(1)
        except KernelError as error:
            raise FormatError("test.blame", "the image") from error

    failing = FailingCall(1, errno.EIO)
    with pytest.raises(AssertionError, match="pipe2"):
        failing.verify(failing.attempt(forgive))
    with pytest.raises(FormatError, match=r"test\.blame"):
        FailingCall(1, errno.EIO).attempt(blame)
