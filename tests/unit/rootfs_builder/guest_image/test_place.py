"""Finished files take the place of old ones whole, or not at all."""

import errno
import shutil
from pathlib import Path

import pytest

from rootfs_builder.guest_image.place import put_in_place

NAMES = ("image.efi", "image.json")


@pytest.fixture
def finished(tmp_path: Path) -> list[Path]:
    (tmp_path / "staging").mkdir()
    paths = [tmp_path / "staging" / name for name in NAMES]
    for path in paths:
        path.write_text("new")
        path.chmod(0o600)
    return paths


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "image").mkdir()
    for name in NAMES:
        (tmp_path / "image" / name).write_text("old")
    return tmp_path / "image"


def content(output: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in output.iterdir()}


def test_files_take_the_place_of_old_ones_for_everybody_to_read(
    finished: list[Path], output: Path
) -> None:
    (output / "other").write_text("other")
    kept = output.with_name("kept")
    kept.hardlink_to(output / NAMES[0])
    put_in_place(finished, output)
    assert content(output) == {**dict.fromkeys(NAMES, "new"), "other": "other"}
    assert {(output / name).stat().st_mode & 0o777 for name in NAMES} == {0o644}
    assert kept.read_text() == "old"
    put_in_place([], output / "deep/new")
    assert (output / "deep/new").is_dir()


@pytest.mark.parametrize("full_at", range(len(NAMES)))
def test_disk_without_room_keeps_the_old_files_and_is_named(
    finished: list[Path], output: Path, full_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another file system, where a move is a copy that may stop in the middle."""

    def copy(source: Path, target: Path) -> None:
        text = source.read_text()
        if source == finished[full_at]:
            target.write_text(text[:1])
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        target.write_text(text)
        source.unlink()

    monkeypatch.setattr(shutil, "move", copy)
    with pytest.raises(OSError, match="No space left") as refused:
        put_in_place(finished, output)
    assert refused.value.filename == str(output / NAMES[full_at])
    assert content(output) == dict.fromkeys(NAMES, "old")
