"""When it is asked again whether a device is free, and when no longer."""

import errno
import os
import time
from pathlib import Path

import pytest

from ccinit.kernel.claimed_device import wait_until_unclaimed
from tests.fakes.machine.scarcity import count_descriptors


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def test_device_that_is_free_or_gone_is_not_waited_for(tmp_path: Path, pauses: list[float]) -> None:
    (tmp_path / "device").touch()
    wait_until_unclaimed(str(tmp_path / "device"))
    wait_until_unclaimed(str(tmp_path / "gone"))
    assert pauses == []


@pytest.mark.parametrize("busy", [1, 49, 1000])
def test_device_of_a_file_system_is_waited_for_within_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float], busy: int
) -> None:
    device, asked, open_really = str(tmp_path / "device"), list[int](), os.open
    Path(device).touch()

    def open_busy(path: str, flags: int) -> int:
        asked.append(flags)
        if len(asked) <= busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        return open_really(path, flags)

    before = count_descriptors()
    monkeypatch.setattr(os, "open", open_busy)
    wait_until_unclaimed(device)
    monkeypatch.undo()
    assert len(pauses) == min(busy, 50)
    assert all(flags & os.O_EXCL for flags in asked)
    assert count_descriptors() == before
