import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.pull.listing import Attributes, Listing
from ccinit.pull.tree import list_tree, tree_job
from ccinit.pull.tree_messages import TreeRequest


@pytest.fixture(autouse=True)
def _stay_here() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree; where file content lies is only known on erofs."""
    monkeypatch.setattr("ccinit.pull.tree._offset_in_tar", lambda _path, size: 512 * size)
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


def expected(root: Path) -> Listing:
    own = Attributes(0o750, os.getuid(), (root / "dir").stat().st_gid, 7)
    link = Attributes((root / "link").lstat().st_mode & 0o7777, own.uid, own.gid, 7)
    listing = Listing()
    listing.directory(b"", own)
    listing.file(b"again", own, 1, 512, b"again")
    listing.directory(b"dir", own)
    listing.file(b"dir/empty", own, 0, 0, b"dir/empty")
    listing.file(b"dir/file", own, 1, 512, b"again")
    listing.symlink(b"link", link, b"/etc/passwd", b"link")
    return listing


def test_tree_is_listed_in_the_order_of_the_pass(root: Path) -> None:
    assert list_tree(str(root)) == expected(root).digest()


def test_job_lists_every_root(root: Path) -> None:
    digests = tree_job(TreeRequest(roots=(str(root), str(root))), None)
    assert digests.listings == (expected(root).digest(),) * 2


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
    monkeypatch.setattr("ccinit.pull.tree.MAX_RECORDS", 5)
    with pytest.raises(CcinitError) as refused:
        list_tree(str(root))
    assert refused.value.reason == "tree.records"
