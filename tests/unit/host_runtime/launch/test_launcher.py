"""What is told of a QEMU that gives up at the first moment of its guest."""

from typing import Any, Never, cast

import pytest

from ccinit.errors import ChildError, PeerError
from host_runtime.launch.launcher import let_run

REFUSED = "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'"


class FakeQemu:
    """Both the process and its QMP connection: `cont` is never answered."""

    def __init__(self, *, has_ended: bool) -> None:
        self._has_ended = has_ended

    def execute(self, command: str) -> Never:
        raise PeerError("qmp.closed", f"QEMU ended before it answered {command}")

    def wait(self, _seconds: float) -> int:
        return 1

    def require_running(self) -> None:
        if self._has_ended:
            raise ChildError("process.ended", f"QEMU ended with 1: {REFUSED}")


def start(*, has_ended: bool) -> None:
    qemu = cast("Any", FakeQemu(has_ended=has_ended))
    let_run(qemu, qemu)


def test_launch_that_the_secure_processor_refuses_is_told_in_qemus_words() -> None:
    with pytest.raises(ChildError, match="Bad measurement") as caught:
        start(has_ended=True)
    assert caught.value.reason == "process.ended"


def test_qemu_that_is_silent_but_there_is_told_as_that() -> None:
    with pytest.raises(PeerError, match="answered cont") as caught:
        start(has_ended=False)
    assert caught.value.reason == "qmp.closed"
