"""Files of the owner's state where the disk is full or fails, or the process is ended."""

import errno
import os
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from guest_owner.files import (
    list_folder,
    make_directory,
    new_directory,
    remove_file,
    remove_unfinished,
    write_all_atomically,
    write_atomically,
    write_new,
)
from tests.fakes.machine.disk_log import log_disk
from tests.fakes.machine.scarcity import descriptors_left, room_for


def test_new_file_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    with room_for(10), pytest.raises(ConfigError) as caught:
        write_new(tmp_path / "key", bytes(11), "key.exists", "")
    assert caught.value.reason == "state.write"
    assert not list(tmp_path.iterdir())
    write_new(tmp_path / "key", bytes(11), "key.exists", "")


def test_file_that_finds_no_room_changes_none_of_those_it_comes_with(tmp_path: Path) -> None:
    first, last = tmp_path / "a/first", tmp_path / "b/last"
    write_all_atomically({first: b"old", last: b"old"})
    with room_for(10), pytest.raises(ConfigError, match=str(last)) as caught:
        write_all_atomically({first: b"new", last: bytes(11)})
    assert caught.value.reason == "state.write"
    assert [path.read_bytes() for path in (first, last)] == [b"old", b"old"]
    assert [*first.parent.iterdir(), *last.parent.iterdir()] == [first, last]
    write_all_atomically({first: b"new", last: bytes(11)})
    assert [path.read_bytes() for path in (first, last)] == [b"new", bytes(11)]


def test_write_that_could_not_be_flushed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def open_files(name: str, flags: int, mode: int = 0) -> int:
        if flags & os.O_DIRECTORY:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really_open(name, flags, mode)

    really_open = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_files)
        with pytest.raises(ConfigError) as caught:
            write_atomically(path, b"new")
        assert caught.value.reason == "state.write"
        with pytest.raises(ConfigError) as caught:
            remove_file(path)
        assert caught.value.reason == "state.remove"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"
    with descriptors_left(1):
        write_atomically(path, b"new")
        remove_file(path)
    assert not list(tmp_path.iterdir())


def fail_to_flush(folder: Path, patch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    patch.setattr(os, "fsync", flush)


def test_error_after_a_name_has_changed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = tmp_path / "a/first", tmp_path / "b/last"
    write_all_atomically({first: b"old", last: b"old"})
    fail_to_flush(last.parent, monkeypatch)
    with pytest.raises(ConfigError) as caught:
        write_all_atomically({first: b"new", last: b"new"})
    assert caught.value.reason == "state.write"
    said = f"cannot write {last}: Input/output error; replaced all the same, for now at least"
    assert caught.value.detail == f"{said}: {first}, {last}"
    assert [path.read_bytes() for path in (first, last)] == [b"new", b"new"]

    with pytest.raises(ConfigError) as caught:
        remove_file(last)
    assert caught.value.reason == "state.remove"
    said = f"cannot remove {last}: Input/output error; it is gone all the same, for now at least"
    assert caught.value.detail == said
    assert not last.exists()


def test_what_cannot_be_removed_is_not_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        remove_file(tmp_path)
    assert caught.value.reason == "state.remove"
    assert caught.value.detail == f"cannot remove {tmp_path}: Is a directory"


def test_disk_that_fails_after_a_rename_keeps_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = tmp_path / "a/first", tmp_path / "b/last"
    with monkeypatch.context() as patch:
        fail_to_flush(last.parent, patch)
        with pytest.raises(ConfigError) as caught:
            write_all_atomically({first: b"new", last: b"new"})
    assert caught.value.reason == "state.write"
    assert caught.value.detail == f"cannot write {last}: Input/output error"
    assert not [*first.parent.iterdir(), *last.parent.iterdir()]
    write_all_atomically({first: b"new", last: b"new"})
    assert [path.read_bytes() for path in (first, last)] == [b"new", b"new"]


def test_directory_whose_name_was_not_flushed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secrets"
    with monkeypatch.context() as patch:
        fail_to_flush(tmp_path, patch)
        with pytest.raises(ConfigError) as caught, new_directory(path) as folder:
            (folder / "one").write_bytes(b"1")
    assert caught.value.detail == f"cannot write {path}: Input/output error"
    assert not list(tmp_path.iterdir())
    with new_directory(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(143)])
def test_write_that_is_told_to_end_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    path = tmp_path / "key"

    def interrupt(_descriptor: int) -> None:
        raise end

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(type(end)) as caught:
            write_atomically(path, b"secret")
    assert caught.value is end
    assert not list(tmp_path.iterdir())
    write_atomically(path, b"secret")
    assert list(tmp_path.iterdir()) == [path]


def test_new_directory_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub/secrets"

    def interrupted(folder: Path) -> None:
        (folder / "one").write_bytes(b"1")
        assert folder.parent == path.parent  # from elsewhere it could not be moved as one
        assert list_folder(path.parent) == []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_directory(path) as folder:
        interrupted(folder)
    assert not list(path.parent.iterdir())
    with new_directory(path) as folder:
        (folder / "one").write_bytes(b"1")
    assert [one.name for one in path.iterdir()] == ["one"]
    assert path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError) as caught, new_directory(path):
        pass
    assert caught.value.reason == "state.directory"


def test_what_was_written_or_removed_is_so_after_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    done = log_disk(monkeypatch)
    write_atomically(path, b"content")
    assert done == ["flush file", "place", "flush folder"]
    del done[:]
    remove_file(path)
    assert done == ["remove", "flush folder"]
    remove_file(path)
    assert done == ["remove", "flush folder"]
    write_new(path, b"key", "key.exists", "")
    assert done[2:] == ["flush file", "flush folder"]
    del done[:]
    with new_directory(tmp_path / "made"):
        pass
    assert done == ["place", "flush folder"]


def test_content_is_whole_when_it_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[bytes] = []

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}")
        if path.is_file():
            flushed.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(tmp_path / "file", b"content")
    write_new(tmp_path / "key", b"key", "key.exists", "")
    assert flushed == [b"content", b"key"]


def test_new_folder_is_there_after_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = log_disk(monkeypatch)
    make_directory(tmp_path / "a/b")
    assert done == ["flush folder", "flush folder"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(_descriptor: int) -> None:
        raise Killed

    path = tmp_path / "resources/ccinit/shop/key"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", kill)
        with pytest.raises(Killed):
            write_atomically(path, b"secret")
    (left,) = (one for one in path.parent.iterdir() if one != path)
    assert left.read_bytes() == b"secret"
    (tmp_path / ".new-folder").mkdir()  # not one of ours: those are files
    remove_unfinished(tmp_path)
    assert list(path.parent.iterdir()) == [path]
    assert (tmp_path / ".new-folder").is_dir()
    assert path.read_bytes() == b"old"


def test_write_atomically_leaves_the_old_file_if_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(ConfigError) as caught:
            write_atomically(path, b"new")
        assert caught.value.reason == "state.write"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
