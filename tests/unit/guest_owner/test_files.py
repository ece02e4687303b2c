"""How files of the owner's state reach the disk, and what is never replaced."""

import errno
import os
import threading
from pathlib import Path

import pytest

from ccinit.errors import ConfigError, FormatError
from guest_owner.files import (
    make_directory,
    read_capped,
    read_parsed,
    write_all_atomically,
    write_atomically,
    write_new,
)


def test_directories_are_the_owners_alone_down_to_the_last(tmp_path: Path) -> None:
    make_directory(tmp_path / "a/b/c")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c")]
    assert modes == [0o700] * 3
    make_directory(tmp_path / "a/b/c")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        make_directory(tmp_path / "file/d")
    assert caught.value.reason == "state.directory"


def test_directory_that_somebody_else_makes_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "a"

    def make_it_meanwhile(_path: Path) -> bool:
        monkeypatch.undo()
        wanted.mkdir()
        return False

    monkeypatch.setattr(Path, "is_dir", make_it_meanwhile)
    make_directory(wanted)
    assert wanted.is_dir()


def test_written_file_has_its_mode_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_atomically(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("umask", "public", "private"), [(0, 0o644, 0o600), (0o22, 0o644, 0o600), (0o77, 0o600, 0o600)]
)
def test_umask_takes_from_everybody_what_they_might_read(
    tmp_path: Path, umask: int, public: int, private: int
) -> None:
    document, key = tmp_path / "document", tmp_path / "key"
    before = os.umask(umask)
    try:
        write_all_atomically({document: b"", key: b""}, public={document})
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (document, key)] == [public, private]


@pytest.mark.parametrize("what", ["pipe", "link", "link to nothing", "directory"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, what: str) -> None:
    path, file = tmp_path / "place", tmp_path / "file"
    file.write_bytes(b"old")
    match what:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(file if what == "link" else tmp_path / "absent")
    before = path.lstat()
    with pytest.raises(ConfigError) as caught:
        write_atomically(path, b"new")
    assert caught.value.reason == "state.place"
    assert path.lstat().st_ino == before.st_ino
    assert file.read_bytes() == b"old"
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


def test_new_file_is_private_and_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "sub/key"
    write_new(path, b"key", "key.exists", "it may be somebody's")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"key", 0o600)
    with pytest.raises(ConfigError, match="exists; it may be somebody's") as caught:
        write_new(path, b"other", "key.exists", "it may be somebody's")
    assert caught.value.reason == "key.exists"
    assert path.read_bytes() == b"key"


def test_new_file_that_a_killed_process_left_empty_is_told_from_a_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch()
    with pytest.raises(ConfigError) as caught:
        write_new(path, b"key", "key.exists", "it may be somebody's")
    assert caught.value.reason == "key.exists"
    told = "but it is empty, as a command leaves it that was killed: remove it"
    assert caught.value.detail == f"{path} exists; {told}"
    path.unlink()
    write_new(path, b"key", "key.exists", "it may be somebody's")


def test_file_that_cannot_be_looked_at_is_not_called_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.touch()

    def refuse(_path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ConfigError) as caught:
        write_new(path, b"key", "key.exists", "it may be somebody's")
    assert caught.value.detail == f"{path} exists; it may be somebody's"


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_no_more_is_read_than_the_cap(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"

    def read(content: bytes, max_bytes: int) -> bytes:
        if kind == "file":
            path.write_bytes(content)
            return read_capped(path, max_bytes)
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(content,))
        writer.start()
        try:
            return read_capped(path, max_bytes)
        finally:
            writer.join()
            path.unlink()

    assert read(b"x" * 3_000_000, 3_000_000) == b"x" * 3_000_000
    with pytest.raises(ConfigError) as caught:
        read(b"x" * 11, 10)
    assert caught.value.reason == "state.size"


def test_error_about_a_files_form_says_which_file(tmp_path: Path) -> None:
    def parse(data: bytes) -> int:
        if not data.isdigit():
            raise FormatError("number.form", "no number")
        return int(data)

    path = tmp_path / "number"
    path.write_bytes(b"7")
    assert read_parsed(path, 10, parse) == 7
    path.write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        read_parsed(path, 10, parse)
    assert (caught.value.reason, caught.value.detail) == ("number.form", f"{path}: no number")
