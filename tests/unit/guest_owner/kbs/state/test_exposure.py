"""What anybody on the KBS's machine could do to its state, as far as modes say."""

from pathlib import Path

import pytest

from guest_owner.files import PUBLIC_MODE, write_atomically
from guest_owner.kbs.state.exposure import exposure_warnings

PUBLIC = ("policy.toml", "initdata/shop.toml", "admin-keys/alice-key.pem")
PRIVATE = ("resources/ccinit/shop/key", "server-key.pem", "request.key")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files as our commands make them."""
    root = tmp_path / "state"
    for name in PUBLIC:
        write_atomically(root / name, b"", mode=PUBLIC_MODE)
    for name in PRIVATE:
        write_atomically(root / name, b"")
    return root


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.parents):
        path.chmod(path.stat().st_mode | 0o055)
        if path.name == "state":
            return


def test_state_as_it_is_made_is_nobodys_but_its_owners(root: Path) -> None:
    assert not list(exposure_warnings(root))
    root.chmod(0o755)  # as a volume may be
    assert not list(exposure_warnings(root))


@pytest.mark.parametrize("name", [".", "policy.toml", "initdata", "initdata/shop.toml"])
def test_what_anybody_may_write_is_told_if_they_come_there(root: Path, name: str) -> None:
    path = root / name
    path.chmod(path.stat().st_mode | 0o002)
    if name != ".":
        assert not list(exposure_warnings(root))
    open_to_all(path.parent if path != root else root)
    (told,) = exposure_warnings(root)
    what = f"may write {path}, and so says what is released: chmod -R o= {root}"
    assert told == f"every user of this machine {what}"
    root.chmod(0o700)
    assert not list(exposure_warnings(root))


@pytest.mark.parametrize("name", [*PUBLIC, *PRIVATE])
def test_secret_that_anybody_may_read_is_told(root: Path, name: str) -> None:
    path = root / name
    path.chmod(0o644)
    open_to_all(path.parent)
    told = list(exposure_warnings(root))
    expected = f"every user of this machine may read {path}, which is secret: chmod -R o= {root}"
    assert told == ([expected] if name in PRIVATE else [])


def test_volume_without_modes_is_told_in_two_lines(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        path.chmod(0o777)
    (root / "elsewhere").symlink_to("/dev/null")  # anybody may write there, as they should
    entries = 1 + len([path for path in root.rglob("*") if not path.is_symlink()])
    written, read = exposure_warnings(root)
    assert f" {root} and {entries - 1} more, and so says " in written
    assert " and 2 more, which is secret: " in read
