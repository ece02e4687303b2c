"""How a life ends: by a wish, or because the guest gives up."""

import os
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.teardown import Teardown
from ccinit.errors import KernelError, VerificationError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init import main
from ccinit.init.sequence import PhaseError
from ccinit.kernel import power
from ccinit.kernel.event_loop import Event, EventLoop
from ccinit.kernel.task import sleep


def live(
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Guest], None],
    *left: type[Exception],
) -> PhaseError | None:
    """Let a guest run whose pod does nothing; return why it ended.

    Args:
        monkeypatch: takes away what a guest needs.
        act: what happens to it.
        left: what the loop raises behind the end, which resets nothing here.
    """
    causes: list[PhaseError | None] = []
    steps: list[str] = []

    def make_guest(loop: EventLoop) -> Guest:
        parts: Any = SimpleNamespace(phase=Phase.RUN, stopping=Event())
        return Guest(
            loop=loop,
            state=parts,
            log=parts,
            service=parts,
            children=parts,
            teardown=Teardown(),
        )

    async def boot_and_run(guest: Guest) -> None:
        try:
            await sleep(0)
            act(guest)
            await sleep(60)
        finally:
            await sleep(0.01)
            steps.append("life is over")

    async def do_nothing(_guest: Guest) -> None:
        await sleep(60)

    async def end(_guest: Guest, cause: PhaseError | None) -> None:
        steps.append("end")
        await sleep(0.02)
        causes.append(cause)

    monkeypatch.setattr(main, "make_guest", make_guest)
    monkeypatch.setattr(main, "_boot_and_run", boot_and_run)
    monkeypatch.setattr(main, "_handle_signals", do_nothing)
    monkeypatch.setattr(main, "end", end)
    loop = EventLoop()
    with suppress(*left):
        loop.run(main.live(loop))
    (cause,) = causes
    assert steps == ["life is over", "end"]
    return cause


def test_wish_to_stop_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert live(monkeypatch, lambda guest: guest.service.stopping.set()) is None


@pytest.mark.parametrize("kind", [MemoryError, RecursionError, RuntimeError, ZeroDivisionError])
@pytest.mark.parametrize("in_background", [False, True])
def test_r77_bug_of_ours_ends_the_guest_by_one_code_and_tells_no_text(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
    in_background: bool,  # noqa: FBT001
) -> None:
    async def fail() -> None:
        raise kind("the words of a secret")

    def act(guest: Guest) -> None:
        if not in_background:
            raise kind("the words of a secret")
        guest.loop.start(fail(), "background")

    cause = live(monkeypatch, act, kind)
    assert cause is not None
    assert (cause.phase, cause.code, cause.error.reason) == (Phase.RUN, Code.INTERNAL, "internal")
    assert cause.error.detail.startswith(f"{kind.__name__} at ")
    assert "secret" not in str(cause.error)


def test_guest_that_gives_up_says_why_and_the_host_gets_the_first_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = [VerificationError("scratch.integrity", word) for word in ("first", "second")]

    def give_up(guest: Guest) -> None:
        for error, code in zip(errors, (Code.STORAGE, Code.INTERNAL), strict=True):
            guest.give_up(error, code)

    cause = live(monkeypatch, give_up)
    assert cause is not None
    assert (cause.phase, cause.code, cause.error) == (Phase.RUN, Code.STORAGE, errors[0])


def test_failure_in_the_background_does_not_cut_the_end_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(after_seconds: float) -> None:
        await sleep(after_seconds)
        raise ZeroDivisionError

    def act(guest: Guest) -> None:
        guest.service.stopping.set()
        for after_seconds in (0.015, 0.02, 0.025):
            guest.loop.start(fail(after_seconds), "background")

    assert live(monkeypatch, act, ZeroDivisionError) is None


def test_end_that_fails_is_a_reset_that_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    async def linger() -> None:
        try:
            await sleep(60)
        finally:
            await sleep(0.01)
            steps.append("it has let go")

    async def fail(*_: object) -> None:
        raise MemoryError

    async def reset() -> None:
        steps.append("reset")

    def act(guest: Guest) -> None:
        guest.loop.start(linger(), "background")
        monkeypatch.setattr(main, "end", fail)
        monkeypatch.setattr(main, "reset", reset)
        guest.service.stopping.set()

    with pytest.raises(ValueError, match="not enough values"):  # no end was seen through
        live(monkeypatch, act)
    assert steps == ["reset", "it has let go"]


def test_end_that_fails_in_one_turn_with_another_task_is_a_reset_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other's failure has woken the main task, which is not waiting for the end just then."""
    steps: list[str] = []
    now = Event()

    async def fail(error: type[Exception]) -> None:
        await now.wait()
        raise error

    async def reset() -> None:
        steps.append("reset")

    async def let_fail() -> None:
        await sleep(0.03)  # by then both wait, and the end is the second
        now.set()

    def act(guest: Guest) -> None:
        guest.loop.start(fail(ZeroDivisionError), "background")
        guest.loop.start(let_fail(), "both")
        monkeypatch.setattr(main, "end", lambda *_: fail(MemoryError))
        monkeypatch.setattr(main, "reset", reset)
        guest.service.stopping.set()

    with pytest.raises(ValueError, match="not enough values"):  # no end was seen through
        live(monkeypatch, act, ZeroDivisionError)
    assert steps == ["reset"]


def test_kernel_that_does_not_reset_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((KernelError(1, "reboot", "test"), KernelError(1, "reboot", "test"), SystemExit))

    def reboot() -> None:
        raise next(answers)

    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(main, "silence", fail)
    monkeypatch.setattr(power, "sync", lambda: None)
    monkeypatch.setattr(power, "reboot", reboot)
    with pytest.raises(SystemExit):
        main.main()
    assert next(answers, None) is None
