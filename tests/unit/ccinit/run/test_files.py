"""One file of a container: what may be opened, and that nothing outside of its root can."""

import errno
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.run import files
from ccinit.run.files import open_file
from ccinit.run.users import Identity
from ccinit.values import replace
from tests.fakes.machine.scarcity import count_descriptors

OWNER = Identity(uid=os.getuid(), gid=os.getgid(), additional_gids=(), home="")
PID = os.getpid()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a container's process; beside it lies what is not the container's."""
    made = tmp_path / "root"
    made.mkdir()
    (tmp_path / "outside").write_bytes(b"the guest's own")
    (made / "file").write_bytes(b"content")

    def open_root(path: str, flags: int) -> int:
        assert path == f"/proc/{PID}/root"
        return os.open(made, flags)

    monkeypatch.setattr(files, "open_path", open_root)
    return made


def read(path: str) -> bytes:
    descriptor = open_file(PID, path, into=False, mode=0, owner=OWNER)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def write(path: str, content: bytes, mode: int = 0o640) -> None:
    descriptor = open_file(PID, path, into=True, mode=mode, owner=OWNER)
    assert os.write(descriptor, content) == len(content)
    os.close(descriptor)


def refusal(path: str, *, into: bool) -> str:
    before = count_descriptors()
    with pytest.raises(CcinitError) as refused:
        open_file(PID, path, into=into, mode=0o600, owner=OWNER)
    assert count_descriptors() == before
    return refused.value.reason


def test_file_is_opened_as_its_process_sees_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert read(str(tmp_path / "file")) == b"content"


def test_process_that_is_gone_has_no_files() -> None:
    with pytest.raises(CcinitError) as refused:
        open_file(1 << 30, "/file", into=False, mode=0, owner=OWNER)
    assert refused.value.reason == "kernel.open"


def test_new_file_has_the_mode_and_owner_that_were_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, uid, gid: owners.append((uid, gid)))
    owner = replace(OWNER, uid=1000, gid=100)
    descriptor = open_file(PID, "/new", into=True, mode=0o6755, owner=owner)
    os.close(descriptor)
    assert owners == [(1000, 100)]
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o755


def test_file_that_is_there_is_emptied_and_keeps_its_mode(root: Path) -> None:
    (root / "file").chmod(0o604)
    write("/file", b"x")
    assert (root / "file").read_bytes() == b"x"
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o604


@pytest.mark.parametrize("target", ["../outside", "../../outside", "/../outside"])
@pytest.mark.parametrize("into", [False, True])
def test_nothing_leads_out_of_the_root(
    root: Path,
    target: str,
    into: bool,  # noqa: FBT001
) -> None:
    (root / "link").symlink_to(target)
    assert refusal("/link", into=into) == "kernel.openat2"
    if not into:
        assert refusal(f"/{target}", into=False) == "kernel.openat2"
    else:
        write(f"/{target}", b"in the container")
        assert (root / "outside").read_bytes() == b"in the container"
    assert (root.parent / "outside").read_bytes() == b"the guest's own"
    (root / "inside").symlink_to("/file")
    assert read("/inside") == b"content"


@pytest.mark.parametrize(
    ("make", "into", "reason"),
    [
        (Path.mkdir, False, "run.file"),
        (Path.mkdir, True, "run.file"),
        (os.mkfifo, False, "run.file"),  # without a writer: nobody waits for one
        (os.mkfifo, True, "run.file"),
        (lambda _path: None, False, "kernel.openat2"),
    ],
)
def test_what_is_no_file_is_not_opened(
    root: Path,
    make: Callable[[Path], object],
    into: bool,  # noqa: FBT001
    reason: str,
) -> None:
    make(root / "odd")
    assert refusal("/odd", into=into) == reason
    assert read("/file") == b"content"


def test_whatever_is_no_file_does_not_notice_that_it_was_looked_at(root: Path) -> None:
    """Opening a device runs its driver, with PID 1's rights; here a pipe tells of a visitor."""
    os.mkfifo(root / "pipe")
    poll = select.poll()
    with os.fdopen(os.open(root / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        poll.register(reader, select.POLLIN)
        assert refusal("/pipe", into=True) == "run.file"
        assert poll.poll(0) == []
        os.close(os.open(root / "pipe", os.O_WRONLY))
        assert poll.poll(0) == [(reader.fileno(), select.POLLHUP)]


@pytest.mark.parametrize(("file", "into"), [("environ", False), ("comm", True)])
def test_what_the_kernel_tells_of_a_process_is_not_opened(
    tmp_path: Path,
    file: str,
    into: bool,  # noqa: FBT001
) -> None:
    """PID 1 may read and write there what the container's user may not."""
    before = Path("/proc/self/comm").read_bytes()
    (tmp_path / "link").symlink_to(f"/proc/{PID}/{file}")
    for path in (f"/proc/{PID}/{file}", str(tmp_path / "link")):
        assert refusal(path, into=into) == "run.file"
    assert Path("/proc/self/comm").read_bytes() == before


def test_root_that_a_program_has_moved_into_proc_shows_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With SYS_CHROOT a program may do so; then there is no /proc in its root."""
    monkeypatch.setattr(files, "open_path", lambda _, flags: os.open("/proc", flags))
    assert refusal(f"/{PID}/environ", into=False) == "run.file"


@pytest.mark.parametrize(
    ("call", "reason"), [("fchown", "kernel.fchown"), ("fstat", "kernel.open")]
)
def test_disk_that_fails_under_a_new_file_is_the_kernels_refusal(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, reason: str
) -> None:
    def fail(*_: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        assert refusal("new", into=True) == reason
    assert (root / "new").read_bytes() == b""
