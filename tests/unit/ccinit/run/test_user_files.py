"""An image's user files on the way from its root to the child that reads them (R69)."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ChildError, FormatError, KernelError
from ccinit.formats.oci.user import MAX_ID
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.run.user_files import find_identity
from ccinit.run.users import (
    GROUPS,
    MAX_GROUPS,
    MAX_HOME_CHARACTERS,
    USERS,
    Identity,
    UserRequest,
)
from ccinit.values import replace
from tests.fakes.machine.interruptions import each_stop
from tests.fakes.machine.no_waiting import finish
from tests.fakes.machine.scarcity import count_descriptors
from tests.fakes.machine.user_child import play_user_child

PASSWD, GROUP = b"web:x:1000:100:Web:/srv/web:/bin/sh\n", b"video:x:44:web\n"
WEB = Identity(uid=1000, gid=100, additional_gids=(44,), home="/srv/web")


class Child:
    """Plays the child, or answers as it is told.

    Attributes:
        given: by the names of its descriptors, what stood before them and what it read there.
    """

    def __init__(self, answer: Identity | None = None) -> None:
        self.given: dict[str, tuple[int, bytes]] = {}
        self._answer = answer

    async def ask(self, request: UserRequest, fds: Mapping[str, int]) -> Identity:
        for name, fd in fds.items():
            place = os.lseek(fd, 0, os.SEEK_CUR)
            self.given[name] = (place, os.pread(fd, 1 << 10, 0))
        return self._answer or await play_user_child(request, fds)


def find(root: Path, user: str = "web", child: Child | None = None) -> Identity:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    before = count_descriptors()
    try:
        return finish(find_identity(root_fd, user, (child or Child()).ask))
    finally:
        assert count_descriptors() == before
        os.close(root_fd)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root of an image that has both files."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_bytes(PASSWD)
    (root / "etc/group").write_bytes(GROUP)
    return root


def test_child_gets_both_files_unread(image: Path) -> None:
    child = Child()
    assert find(image, "web", child) == WEB
    assert child.given == {USERS: (0, PASSWD), GROUPS: (0, GROUP)}


@pytest.mark.parametrize(("name", "kept"), [("passwd", GROUPS), ("group", USERS)])
def test_child_gets_the_one_file_that_there_is(image: Path, name: str, kept: str) -> None:
    (image / "etc" / name).unlink()
    child = Child()
    assert find(image, "1000", child).uid == 1000
    assert set(child.given) == {kept}


@pytest.mark.parametrize("is_empty", [True, False])
def test_image_without_user_files_costs_no_child(
    tmp_path: Path,
    is_empty: bool,  # noqa: FBT001
) -> None:
    if not is_empty:
        (tmp_path / "etc").write_text("a file")

    def alone(user: str) -> Identity:
        child = Child(WEB)
        found = find(tmp_path, user, child)
        assert child.given == {}
        return found

    assert alone("") == Identity(uid=0, gid=0, additional_gids=(), home="")
    assert alone("1000:7") == Identity(uid=1000, gid=7, additional_gids=(), home="")
    for user, reason in (("web", "run.user"), ("7:video", "run.group")):
        with pytest.raises(FormatError) as error:
            alone(user)
        assert error.value.reason == reason


def test_user_files_behind_links_stay_inside_the_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "usr").mkdir()
    (root / "usr" / "passwd").write_bytes(PASSWD)
    (tmp_path / "group").write_bytes(b"outside:x:1:\n")
    (root / "group").write_bytes(GROUP)
    (root / "etc" / "passwd").symlink_to("/usr/passwd")
    (root / "etc" / "group").symlink_to("../../../../group")
    assert find(root) == WEB


def test_user_file_that_cannot_be_opened_is_not_taken_for_absent(image: Path) -> None:
    (image / "etc" / "group").unlink()
    (image / "etc" / "group").symlink_to("group")
    with pytest.raises(KernelError) as error:
        find(image)
    assert error.value.reason == "kernel.openat2"
    (image / "etc" / "group").unlink()
    assert find(image) == replace(WEB, additional_gids=())


@pytest.mark.parametrize("kind", ["fifo", "directory"])
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_r69_user_file_of_another_kind_is_refused(image: Path, name: str, kind: str) -> None:
    assert find(image) == WEB
    path = image / "etc" / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    child = Child()
    with pytest.raises(FormatError) as error:
        find(image, "web", child)
    assert error.value.reason == "run.user_file"
    assert child.given == {}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"uid": MAX_ID}, {"uid": MAX_ID + 1}),
        ({"uid": 0}, {"uid": -1}),
        ({"gid": MAX_ID}, {"gid": MAX_ID + 1}),
        ({"gid": 0}, {"gid": -1}),
        ({"additional_gids": (0, MAX_ID)}, {"additional_gids": (0, MAX_ID + 1)}),
        ({"additional_gids": ()}, {"additional_gids": (-1,)}),
        (
            {"additional_gids": tuple(range(MAX_GROUPS))},
            {"additional_gids": tuple(range(MAX_GROUPS + 1))},
        ),
        ({"home": "/" * MAX_HOME_CHARACTERS}, {"home": "/" * (MAX_HOME_CHARACTERS + 1)}),
    ],
)
def test_answer_that_is_no_identity_is_refused(
    image: Path, good: dict[str, object], bad: dict[str, object]
) -> None:
    """Whoever has taken the child over can make a container another user of its own, no more."""
    answer = replace(WEB, **good)
    assert find(image, "web", Child(answer)) == answer
    with pytest.raises(ChildError) as error:
        find(image, "web", Child(replace(WEB, **bad)))
    assert error.value.reason == "child.protocol"


def test_childs_refusal_and_its_end_are_the_containers(image: Path) -> None:
    async def fail(_request: UserRequest, _fds: Mapping[str, int]) -> Identity:
        raise ChildError("child.ended", "user: signal 9, out of memory")

    with pytest.raises(FormatError, match=r"run\.user"):
        find(image, "nobody-here")
    root_fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(CcinitError, match=r"child\.ended"):
        finish(find_identity(root_fd, "web", fail))
    os.close(root_fd)


def test_files_are_closed_however_the_wait_for_the_child_ends(image: Path) -> None:
    async def take_time(request: UserRequest, fds: Mapping[str, int]) -> Identity:
        await sleep(0)
        return await play_user_child(request, fds)

    root_fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    before = count_descriptors()
    for stop in each_stop():
        flow = find_identity(root_fd, "web", take_time)
        stop.verify(EventLoop().run(stop.attempt(flow)))
        assert count_descriptors() == before, stop
    os.close(root_fd)
