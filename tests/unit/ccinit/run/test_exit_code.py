"""Whose exit code is the pod's."""

import signal

import pytest

from ccinit.kernel.process import ExitStatus
from ccinit.run.container import ContainerState
from ccinit.run.exit_code import ContainerEnd, choose_exit_code


def exited(code: int) -> ContainerEnd:
    state = ContainerState.FAILED if code else ContainerState.DONE
    return ContainerEnd(state=state, status=ExitStatus(code=code, signal=0))


def killed(number: int) -> ContainerEnd:
    return ContainerEnd(state=ContainerState.FAILED, status=ExitStatus(code=0, signal=number))


GOOD = exited(0)
UNSEEN = ContainerEnd(state=ContainerState.FAILED, status=None)
CONDEMNED = ContainerEnd(state=ContainerState.FAILED, status=ExitStatus(code=0, signal=0))


@pytest.mark.parametrize("code", [0, 1, 7, 127, 128, 255])
def test_code_of_the_only_container_is_the_pods(code: int) -> None:
    assert choose_exit_code([exited(code)]) == code


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGRTMAX])
def test_signal_is_told_as_shells_do(number: int) -> None:
    assert choose_exit_code([killed(number)]) == 128 + number < 256


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        pytest.param((GOOD, GOOD, GOOD), 0, id="all-well"),
        pytest.param((GOOD, exited(7)), 7, id="last-failed"),
        pytest.param((exited(3), exited(7)), 7, id="last-of-the-failed"),
        pytest.param((exited(7), exited(3)), 3, id="order-counts-not-size"),
        pytest.param((exited(7), GOOD), 7, id="well-behind-a-failure"),
        pytest.param((exited(3), killed(signal.SIGKILL), GOOD), 137, id="signal"),
        pytest.param((UNSEEN, exited(7)), 7, id="unseen-before-the-one-that-decides"),
    ],
)
def test_last_to_fail_decides_among_several(ends: tuple[ContainerEnd, ...], code: int) -> None:
    assert choose_exit_code(ends) == code


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param((UNSEEN,), id="unseen"),
        pytest.param((exited(7), UNSEEN, GOOD), id="unseen-decides"),
        pytest.param((CONDEMNED,), id="failed-with-0"),
        *(
            pytest.param((exited(7), ContainerEnd(state=state, status=killed(15).status)), id=state)
            for state in ContainerState
            if state not in {ContainerState.DONE, ContainerState.FAILED}
        ),
    ],
)
def test_end_without_a_number_has_none(ends: tuple[ContainerEnd, ...]) -> None:
    assert choose_exit_code(ends) is None
