"""Whatever ends a life, the exit status that it leaves for others is its own."""

import socket
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import ChildError
from host_runtime.oci_runtime.container import END, Container
from host_runtime.oci_runtime.life import live


def status_of_life(folder: Path, outcome: int | Exception) -> int:
    """Live in `folder`, and end by this; return the status that is left."""

    def run(container: Container, _creator: Any) -> int:
        assert container.was_killed()  # as far as anybody can tell yet
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    ours, its = socket.socketpair()
    with ours:
        live("life", [str(folder), "--creator", str(its.detach())], run)
    return int((folder / END).read_text())


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(0, 0), (65, 65), (OSError(28, "no room"), 1), (ChildError("guest.crashed", "QEMU"), 1)],
)
def test_status_is_that_of_the_process(
    tmp_path: Path, outcome: int | Exception, status: int
) -> None:
    assert status_of_life(tmp_path, outcome) == status


@pytest.mark.parametrize("error", [TypeError(), MemoryError()])
def test_error_that_nobody_expected_is_no_kill(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        status_of_life(tmp_path, error)
    assert int((tmp_path / END).read_text()) == 1
