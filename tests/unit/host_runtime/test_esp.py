from pathlib import Path

import pytest

from ccinit.errors import ChildError
from host_runtime.esp import create_esp
from host_runtime.tools import Tools


def test_disk_that_cannot_be_filled_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...], **_environment: object) -> None:
        done.append(command)
        if len(done) in failing:
            raise ChildError("process.failed", "no room")

    failing = {2}
    monkeypatch.setattr("host_runtime.process.run", run)
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
