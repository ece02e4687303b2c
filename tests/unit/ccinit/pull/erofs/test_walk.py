import fcntl
import os
import stat
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.errors import CcinitError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.pull.erofs.walk import list_tree, tree_job
from ccinit.pull.layers.listing import Attributes, Listing, ListingPart
from ccinit.pull.messages.tree import TreeDigests, TreeRequest, join_parts, share_parts
from tests.unit.ccinit.pull.layers.expected_listing import ExpectedListing


@pytest.fixture(autouse=True)
def _stay_here() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)


class Index:
    """Stands for that of a layer, which these trees do not have."""

    elsewhere: frozenset[int] = frozenset()

    def __init__(self, _path: str) -> None:
        pass

    def verify(self, status: os.stat_result) -> None:
        if status.st_ino in self.elsewhere:
            raise VerificationError("erofs.content", "it is in the index")


@pytest.fixture(autouse=True)
def _index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccinit.pull.erofs.walk._Index", Index)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree; where file content lies is only known on erofs."""
    monkeypatch.setattr(
        "ccinit.pull.erofs.walk._offset_in_tar", lambda _fd, size, _path: 512 * size
    )
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_bytes(b"x")
    (root / "dir" / "empty").touch()
    os.link(root / "dir" / "file", root / "again")
    (root / "link").symlink_to("/etc/passwd")
    for path in (root / "dir" / "file", root / "dir" / "empty", root / "dir", root):
        path.chmod(0o750)
        os.utime(path, (7, 7))
    os.utime(root / "link", (7, 7), follow_symlinks=False)
    return root


def expected(root: Path) -> ExpectedListing:
    own = Attributes(0o750, os.getuid(), (root / "dir").stat().st_gid, 7)
    link = Attributes((root / "link").lstat().st_mode & 0o7777, own.uid, own.gid, 7)
    listing = ExpectedListing()
    listing.directory(b"", own)
    listing.file(b"again", own, 1, 512, b"again")
    listing.directory(b"dir", own)
    listing.file(b"dir/empty", own, 0, 0, b"dir/empty")
    listing.file(b"dir/file", own, 1, 512, b"again")
    listing.symlink(b"link", link, b"/etc/passwd", b"link")
    return listing


def test_tree_is_listed_in_the_order_of_the_pass(root: Path) -> None:
    assert list_tree(str(root)) == expected(root).digests()


def test_job_lists_every_root(root: Path) -> None:
    digests = tree_job(TreeRequest(roots=(str(root), str(root)), parts=(0, 1)), None)
    assert digests.listings == (expected(root).digests(),) * 2


def test_parts_that_two_walkers_list_are_those_of_one(root: Path) -> None:
    """A file with names in both, the first one in the part that the other walker has."""
    os.link(root / "dir" / "empty", root / "zero")
    os.utime(root, (7, 7))
    whole = list_tree(str(root))
    walked = [
        tree_job(TreeRequest(roots=(str(root),), parts=parts), None) for parts in share_parts(2)
    ]
    assert join_parts(walked).listings == (whole,)
    own = Attributes(0o750, os.getuid(), (root / "dir").stat().st_gid, 7)
    listing = expected(root)
    listing.file(b"zero", own, 0, 0, b"dir/empty")
    assert whole == listing.digests()


def test_entry_that_lies_about_its_type_hides_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walker that does not see `a/s` would leave `z` to the other one, and that one to it."""
    (tmp_path / "a" / "s").mkdir(parents=True)
    (tmp_path / "a" / "s" / "empty").touch()
    (tmp_path / "z").mkdir()
    os.utime(tmp_path / "z", (7, 7))
    tar_says = walk_by_two(tmp_path)
    assert tar_says == list_tree(str(tmp_path))
    (tmp_path / "z" / "hidden").touch()
    os.utime(tmp_path / "z", (7, 7))
    scandir = os.scandir

    @contextmanager
    def lying(path: bytes) -> Iterator[list[Any]]:
        with scandir(path) as entries:
            yield [Entry(entry) for entry in entries]

    class Entry:
        def __init__(self, entry: os.DirEntry[bytes]) -> None:
            self.name, self.inode = entry.name, entry.inode
            self._is_dir = entry.is_dir(follow_symlinks=False) and entry.name != b"s"

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return self._is_dir and not follow_symlinks

    monkeypatch.setattr(os, "scandir", lying)
    assert walk_by_two(tmp_path) != tar_says


def walk_by_two(root: Path) -> tuple[Digest, ...]:
    return list_tree(str(root), parts=(0,)) + list_tree(str(root), parts=(1,))


def test_walker_that_answers_for_fewer_trees_leaves_fewer(root: Path) -> None:
    one = tree_job(TreeRequest(roots=(str(root),), parts=(0,)), None)
    none = TreeDigests(listings=())
    assert join_parts([one, none]).listings == join_parts([none, one]).listings == ()


@pytest.mark.parametrize(("walkers", "shares"), [(1, ((0, 1),)), (2, ((0,), (1,)))])
def test_parts_are_shared(walkers: int, shares: tuple[tuple[int, ...], ...]) -> None:
    assert share_parts(walkers) == shares


def test_attribute_whose_name_is_no_text_is_listed_by_its_bytes(root: Path) -> None:
    os.setxattr(root / "dir" / "empty", b"user.\xff", b"v")
    own = Attributes(0o750, os.getuid(), (root / "dir").stat().st_gid, 7)
    marked = Attributes(own.mode, own.uid, own.gid, own.mtime, ((b"user.\xff", b"v"),))
    listing = ExpectedListing()
    listing.directory(b"", own)
    listing.file(b"empty", marked, 0, 0, b"empty")
    (root / "dir" / "file").unlink()
    os.utime(root / "dir", (7, 7))
    assert list_tree(str(root / "dir")) == listing.digests()


def test_what_no_layer_may_hold_is_refused(root: Path) -> None:
    os.mkfifo(root / "dir" / "fifo")
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root))
    assert refused.value.reason == "tree.kind"


def test_root_that_is_a_symlink_is_refused(root: Path) -> None:
    (root.parent / "other").symlink_to(root)
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root.parent / "other"))
    assert refused.value.reason == "kernel.walk"


def test_tree_without_an_end_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccinit.pull.erofs.walk.MAX_RECORDS", 5)
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root))
    assert refused.value.reason == "tree.records"


def test_other_mount_within_the_tree_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_seems(monkeypatch, st_dev=root.stat().st_dev + 1)
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root))
    assert refused.value.reason == "tree.device"


def test_device_is_no_whiteout_of_the_same_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing of the pass would have the whiteout, and says nothing of a device's numbers."""
    listing = ExpectedListing()
    listing.directory(b"", attributes(root / "dir"))
    listing.whiteout(b"empty")
    listing.file(b"file", attributes(root / "dir" / "file"), 1, 512, b"file")
    (root / "again").unlink()
    empty_seems(monkeypatch, st_mode=stat.S_IFCHR, st_rdev=os.makedev(0, 0))
    assert list_tree(str(root / "dir")) == listing.digests()
    empty_seems(monkeypatch, st_mode=stat.S_IFCHR, st_rdev=os.makedev(1, 3))
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root / "dir"))
    assert refused.value.reason == "tree.kind"


def empty_seems(monkeypatch: pytest.MonkeyPatch, **otherwise: int) -> None:
    """Have the file `empty` be otherwise than it is."""
    lstat = os.lstat

    def changed(path: bytes) -> Any:
        status = lstat(path)
        if path != b"empty":
            return status
        seen = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
        return SimpleNamespace(**seen | otherwise)

    monkeypatch.setattr(os, "lstat", changed)


@pytest.mark.parametrize("part", [0, 1])
def test_directory_that_has_gone_elsewhere_does_not_take_the_walker_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """As one with two names does on erofs, when the other walker looks the second one up."""
    root, away = tmp_path / "root", tmp_path / "away"
    (root / "a" / "x").mkdir(parents=True)
    away.mkdir()
    for folder, mode in ((root / "a", 0o600), (away, 0o644)):
        (folder / "y").touch(mode)
    enter = Listing.enter

    def enter_while_it_goes(listing: Listing, path: bytes, names: int) -> ListingPart:
        if path == b"a/x":
            (root / "a" / "x").rename(away / "x")
        return enter(listing, path, names)

    assert list_tree(str(root), parts=(part,))
    monkeypatch.setattr(Listing, "enter", enter_while_it_goes)
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root), parts=(part,))
    assert refused.value.reason == "tree.parent"


def test_content_that_the_index_has_itself_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file has none, and may be said to be anywhere."""
    monkeypatch.setattr(Index, "elsewhere", {(root / "dir" / "empty").stat().st_ino})
    assert list_tree(str(root)) == expected(root).digests()
    monkeypatch.setattr(Index, "elsewhere", {(root / "dir" / "file").stat().st_ino})
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root))
    assert refused.value.reason == "erofs.content"


SIZE = 1000


@pytest.mark.parametrize(
    ("extents", "reason"),
    [
        pytest.param([(0, 512, 4096)], "", id="one"),
        pytest.param([(0, 512, SIZE)], "", id="exact"),
        pytest.param([(0, 512, SIZE - 1)], "tree.extent", id="short"),
        pytest.param([(512, 512, 4096)], "tree.extent", id="hole-before"),
        pytest.param([], "tree.extent", id="none"),
        pytest.param([(0, 512, 4096), (4096, 8192, 4096)], "tree.extent", id="two"),
    ],
)
def test_file_is_one_piece_of_the_tar(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extents: list[tuple[int, int, int]],
    reason: str,
) -> None:
    """FS_IOC_FIEMAP: struct fiemap of 32 bytes, then struct fiemap_extent of 56 bytes each."""
    (tmp_path / "file").write_bytes(bytes(SIZE))

    def fiemap(_fd: int, request: int, buffer: bytearray) -> int:
        assert request == 0xC020660B
        struct.pack_into("=I", buffer, 20, len(extents))
        for index, (logical, physical, length) in enumerate(extents):
            struct.pack_into("=QQQ", buffer, 32 + 56 * index, logical, physical, length)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", fiemap)
    if not reason:
        assert list_tree(str(tmp_path)) == listed(tmp_path, 512).digests()
        return
    with pytest.raises(CcinitError) as refused:
        list_tree(str(tmp_path))
    assert refused.value.reason == reason


def listed(folder: Path, offset: int) -> ExpectedListing:
    """A folder with one `file` whose content begins there."""
    listing = ExpectedListing()
    listing.directory(b"", attributes(folder))
    listing.file(b"file", attributes(folder / "file"), SIZE, offset, b"file")
    return listing


def attributes(path: Path) -> Attributes:
    status = path.stat()
    return Attributes(
        status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns // 10**9
    )


def test_walk_does_not_hold_the_paths_of_all_siblings(root: Path) -> None:
    wide = 300
    deep = "/".join(["d" * 250] * 15)  # nearly PATH_MAX
    os.chdir(root)
    Path(deep).mkdir(parents=True)
    for number in range(wide):
        Path(deep, str(number)).touch()
    tracemalloc.start()
    try:
        list_tree(str(root))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < wide * len(deep) / 4
