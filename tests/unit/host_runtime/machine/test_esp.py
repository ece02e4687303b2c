import errno
import os
from pathlib import Path

import pytest

from ccinit.errors import ChildError
from host_runtime.machine.esp import create_esp
from host_runtime.programs.tools import Tools


def test_disk_that_cannot_be_filled_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...], **_environment: object) -> None:
        done.append(command)
        if len(done) in failing:
            raise ChildError("process.failed", "no room")

    failing = {2}
    monkeypatch.setattr("host_runtime.programs.process.run", run)
    monkeypatch.setattr(Tools, "command", lambda _, program: (program,))
    monkeypatch.setattr(Tools, "environment", lambda _: {})
    (tmp_path / "uki").write_bytes(b"MZ")
    image = tmp_path / "esp.img"
    with pytest.raises(ChildError):
        create_esp(Tools(), tmp_path / "uki", image)
    assert not image.exists()
    failing.clear()
    assert create_esp(Tools(), tmp_path / "uki", image) == image
    assert image.stat().st_size == 40 << 20
    with pytest.raises(FileExistsError):
        create_esp(Tools(), tmp_path / "uki", image)
    assert image.exists()


def test_disk_without_room_is_told_with_the_images_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    (tmp_path / "uki").write_bytes(b"MZ")
    with pytest.raises(OSError, match="No space left") as error:
        create_esp(Tools(), tmp_path / "uki", tmp_path / "esp.img")
    assert error.value.filename == str(tmp_path / "esp.img")
    assert not (tmp_path / "esp.img").exists()
