"""When answers add up to a verdict."""

import errno
from typing import Never

import pytest

from ccinit.errors import ConfigError, KernelError
from ccinit.formats.pod.probe import LivenessProbe, Probe
from ccinit.kernel.event_loop import EventLoop
from ccinit.run import probe as probe_module
from ccinit.run.probe import asking, wait_for_no, wait_for_yes
from ccinit.values import replace

PROBE = Probe(exec=("/check",), tcp_port=0, delay_seconds=7, period_seconds=2, timeout_seconds=1)


class Container:
    """Answers as it was told to, and notes how long it was left alone."""

    def __init__(self, answers: str) -> None:
        self._answers = iter(answers)
        self.asked = 0
        self.pauses: list[float] = []

    async def ask(self, _probe: Probe) -> bool:
        self.asked += 1
        return next(self._answers) == "y"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def container(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Container:
    made = Container(request.param)
    monkeypatch.setattr(probe_module, "sleep", made.sleep)
    return made


@pytest.mark.parametrize(("container", "asked"), [("y", 1), ("nnny", 4)], indirect=["container"])
def test_first_yes_is_enough(container: Container, asked: int) -> None:
    EventLoop().run(wait_for_yes(PROBE, container.ask))
    assert container.asked == asked
    assert container.pauses == [7, *[2] * (asked - 1)]


@pytest.mark.parametrize(
    ("container", "asked"), [("nnn", 3), ("ynnn", 4), ("nnynnynnn", 9)], indirect=["container"]
)
def test_only_so_many_in_a_row_are_a_no(container: Container, asked: int) -> None:
    EventLoop().run(wait_for_no(LivenessProbe(probe=PROBE, failures=3), container.ask))
    assert container.asked == asked
    assert container.pauses == [7, *[2] * (asked - 1)]


def test_program_that_cannot_be_started_is_a_no_that_the_owner_learns_of() -> None:
    said: list[str] = []

    async def execute(arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int) -> Never:
        assert arguments == PROBE.exec
        assert stdin != stdout == stderr
        raise ConfigError("run.exec", "it is retrying")

    async def ask() -> bool:
        return await asking(execute, "192.0.2.9", said.append)(PROBE)

    assert EventLoop().run(ask()) is False
    (line,) = said
    assert line.startswith("probe: ")
    assert "run.exec" in line


def test_port_that_cannot_be_asked_for_want_of_a_descriptor_is_a_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    async def fail(_port: int, own: str, _seconds: float) -> Never:
        assert own == "192.0.2.9"
        raise KernelError(errno.EMFILE, "socket", "AF_INET")

    async def execute(arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int) -> Never:
        raise AssertionError((arguments, stdin, stdout, stderr))

    async def ask() -> bool:
        return await asking(execute, "192.0.2.9", said.append)(replace(PROBE, exec=(), tcp_port=80))

    monkeypatch.setattr(probe_module, "accepts_connections", fail)
    assert EventLoop().run(ask()) is False
    assert said == ["probe: kernel.socket: AF_INET: errno 24 (EMFILE)"]
