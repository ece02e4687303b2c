"""What is left, and what is told, of a step of crun's that failed."""

import errno
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Never

import pytest

from ccinit.errors import ChildError, FormatError, KernelError
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.kernel.process import ExitStatus
from ccinit.run import crun as module
from ccinit.run.crun import Crun
from tests.fakes.machine.failing_calls import each_failing_call


def test_program_without_its_terminal_is_ended_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diary: list[str] = []

    async def execute(*_: object) -> object:
        acts = {name: partial(diary.append, name) for name in ("kill", "disown")}
        return SimpleNamespace(**acts, wait=Event().wait)  # it hangs in the kernel

    def receive(_listener: object) -> Never:
        raise ChildError("kernel.terminal", "no terminal was sent")

    monkeypatch.setattr(Crun, "_exec", execute)
    monkeypatch.setattr(module, "listen_for_terminal", nullcontext)
    monkeypatch.setattr(module, "receive_terminal", receive)
    with pytest.raises(ChildError, match=r"kernel\.terminal"):
        EventLoop().run(Crun(state_dir="/", log=lambda _: None).exec_on_terminal("web", {}))
    assert diary == ["kill", "disown"]


def test_failure_to_clear_away_does_not_hide_why_there_is_something_to_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = bytearray()

    async def fail(_crun: Crun, arguments: tuple[str, ...], _fds: object) -> Never:
        raise ChildError(f"crun.{arguments[0]}", "exit code 1")

    monkeypatch.setattr(Crun, "_write_bundle", lambda *_: "/bundle")
    monkeypatch.setattr(Crun, "_run", fail)
    crun = Crun(state_dir="/", log=said.extend)
    with pytest.raises(ChildError, match=r"crun\.create"):
        EventLoop().run(crun.create("web", {}, stdout=1, stderr=2))
    assert said == b"web is not cleared away: crun.delete: exit code 1\n"


def test_bundle_goes_with_its_secrets_even_if_crun_cannot_delete(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def fail(_crun: Crun, arguments: tuple[str, ...], _fds: object) -> Never:
        raise ChildError(f"crun.{arguments[0]}", "exit code 1")

    monkeypatch.setattr(Crun, "_run", fail)
    crun = Crun(state_dir=str(tmp_path), log=lambda _: None)
    bundle = Path(crun._write_bundle("web", {"env": ["KEY=the secret"]}))
    with pytest.raises(ChildError, match=r"crun\.delete"):
        EventLoop().run(crun.delete("web"))
    assert not bundle.exists()


class Program:
    """Stands for crun: says something, and ends with a status."""

    def __init__(self, said: bytes, status: ExitStatus) -> None:
        self._said = said
        self.status = status

    def spawn(self, _command: object, _environment: object, fds: dict[int, int]) -> "Program":
        os.write(fds[2], self._said)
        return self

    async def wait(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def disown(self) -> None:
        pass


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        pytest.param(b"", "web: exit code 255", id="nothing"),
        pytest.param(
            b"a warning\nexecutable file `serve` not found in $PATH\n",
            "web: exit code 255: executable file `serve` not found in $PATH",
            id="last-line",
        ),
        pytest.param(b"\x1b[2J\xff\n", "web: exit code 255: [2J\ufffd", id="printable"),
        pytest.param(b"x" * 9000, f"web: exit code 255: {'x' * 240}", id="cut"),
    ],
)
def test_failure_says_the_last_that_crun_has_said(
    monkeypatch: pytest.MonkeyPatch, said: bytes, detail: str
) -> None:
    log = bytearray()
    program = Program(said, ExitStatus(code=255, signal=0))
    monkeypatch.setattr(module, "spawn", program.spawn)
    with pytest.raises(ChildError) as failed:
        EventLoop().run(Crun(state_dir="/", log=log.extend)._run(("exec", "web"), {}))
    assert (failed.value.reason, failed.value.detail) == ("crun.exec", detail)
    assert bytes(log) == said


def test_interrupt_waits_for_crun_but_not_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diary: list[str] = []
    ended = Event()

    class Hanging:
        status = None

        async def wait(self) -> None:
            diary.append("waited for")
            await ended.wait()

        def kill(self) -> None:
            diary.append("killed")
            ended.set()

        def disown(self) -> None:
            pass

    monkeypatch.setattr(module, "spawn", lambda *_: Hanging())
    monkeypatch.setattr(module, "INTERRUPTED_SECONDS", 0.01)
    loop = EventLoop()

    async def main() -> None:
        crun = Crun(state_dir="/", log=lambda _: None)
        task = loop.start(crun.start("web"), "start")
        await sleep(0.01)
        await task.stop()

    loop.run(main())
    assert diary == ["waited for", "waited for", "killed", "waited for"]


def test_crun_that_the_kernel_let_nobody_wait_for_is_not_killed_in_the_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diary: list[str] = []

    class Working:
        status = ExitStatus(code=0, signal=0)

        async def wait(self) -> None:
            diary.append("waited for")
            if len(diary) == 1:
                raise KernelError(errno.ENOMEM, "epoll_ctl", "crun")

        def kill(self) -> None:
            diary.append("killed")  # what has ended

        def disown(self) -> None:
            pass

    monkeypatch.setattr(module, "spawn", lambda *_: Working())
    with pytest.raises(KernelError):
        EventLoop().run(Crun(state_dir="/", log=lambda _: None).start("web"))
    assert diary == ["waited for", "waited for", "killed", "waited for"]


@pytest.mark.parametrize("text", ["", "0", "1", "-1", "4321\n", "4321 1"])
def test_pid_file_that_names_no_container_has_nobody_adopted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """Whoever is adopted is killed in the end: PID 1 is not to take its own number for one."""
    bundle = tmp_path / "bundles/web"

    async def make(_crun: Crun, arguments: tuple[str, ...], _fds: object) -> None:
        if arguments[0] == "create":
            (bundle / "pid").write_text(text)

    monkeypatch.setattr(Crun, "_run", make)
    adopted: list[int] = []
    monkeypatch.setattr(module, "adopt", adopted.append)
    crun = Crun(state_dir=str(tmp_path), log=lambda _: None)
    with pytest.raises(FormatError) as refused:
        EventLoop().run(crun.create("web", {}, stdout=1, stderr=2))
    assert refused.value.reason == "crun.pid"
    assert not bundle.exists()
    text = "4321"
    EventLoop().run(crun.create("web", {}, stdout=1, stderr=2))
    assert adopted == [4321]


def test_container_that_cannot_be_made_leaves_no_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundles/web"

    async def make(_crun: Crun, arguments: tuple[str, ...], _fds: object) -> None:
        if arguments[0] == "create":
            (bundle / "pid").write_text(str(os.getpid()))

    monkeypatch.setattr(Crun, "_run", make)
    monkeypatch.setattr(module, "adopt", lambda pid: pid)
    crun = Crun(state_dir=str(tmp_path), log=lambda _: None)
    spec = {"env": ["KEY=the secret"]}
    for failing in each_failing_call(errno.ENOSPC):
        create = crun.create("web", spec, stdout=1, stderr=2)
        failure = failing.attempt(partial(EventLoop().run, create))
        failing.verify(failure)
        assert bundle.exists() == (failure is None), failing
