"""The end of a container, as another process learns of it."""

import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.container import END, LIFE, Container
from host_runtime.oci_runtime.container_end import container_end


def live(folder: Path) -> int:
    """Live as another process would: a lock belongs to an open file; closed, that life is over."""
    (folder / LIFE).write_text("7")
    (folder / END).touch()
    descriptor = os.open(folder / LIFE, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


@pytest.mark.parametrize("status", [0, 1, 65, 255])
def test_end_is_the_status_that_the_life_leaves_even_of_a_folder_that_is_gone(
    status: int, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    life = live(folder)
    with container_end(Container(folder=folder)) as end:
        Container(folder=folder).note_end(status)
        shutil.rmtree(folder)
        os.close(life)
        assert end.wait() == status


def test_end_is_waited_for(tmp_path: Path) -> None:
    life = live(tmp_path)
    statuses: list[int] = []
    with container_end(Container(folder=tmp_path)) as end:
        waiting = threading.Thread(target=lambda: statuses.append(end.wait()))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        Container(folder=tmp_path).note_end(7)
        os.close(life)
        waiting.join(60)
    assert statuses == [7]


def test_life_that_is_killed_has_left_none(tmp_path: Path) -> None:
    life = live(tmp_path)
    with container_end(Container(folder=tmp_path)) as end:
        os.close(life)
        assert end.wait() == 137


def test_end_that_has_been_is_none_to_wait_for(tmp_path: Path) -> None:
    def reason() -> str:
        with pytest.raises(CcinitError) as error, container_end(Container(folder=tmp_path)):
            pass
        return error.value.reason

    assert reason() == "sandbox.state"  # it has never lived
    os.close(live(tmp_path))
    assert reason() == "sandbox.state"
