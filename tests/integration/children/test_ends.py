"""How a child ends, and how that is told.

Needs root, for the change of user, and a kernel with Landlock (ABI 6) and seccomp.
"""

import os
import signal

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import Role
from ccinit.errors import CcinitError, ChildError, DeadlineError, KernelError, VerificationError
from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from tests.fakes.machine.owned import owned_pids
from tests.integration.children.harness import (
    SECONDS,
    needs_root,
    refused,
    run_order,
    status_of,
)
from tests.integration.children.program import TABLE, Continue, Halt, Order, Outcome, Step

pytestmark = needs_root


@pytest.mark.parametrize(
    ("deed", "text", "number", "family", "message"),
    [
        pytest.param("refuse", "why", 0, VerificationError, "pull.digest: why", id="refuses"),
        pytest.param(
            "refuse_by_kernel",
            "",
            0,
            KernelError,
            "kernel.dm: volume: errno 5 (EIO)",
            id="kernel error",
        ),
        pytest.param("end", "", 3, ChildError, "child.ended: config: exit code 3", id="exits"),
        pytest.param("end", "", 0, ChildError, "child.ended: config: exit code 0", id="leaves"),
        pytest.param("crash", "", 0, ChildError, "child.ended: config: signal 11", id="crashes"),
    ],
)
def test_failure_is_told_by_family_reason_and_detail(
    children: Children, deed: str, text: str, number: int, family: type, message: str
) -> None:
    with pytest.raises(CcinitError) as error:
        run_order(children, deed, text, number)
    assert type(error.value) is family
    assert str(error.value) == message


def test_stray_exception_is_told_without_its_text(children: Children) -> None:
    with pytest.raises(ChildError) as error:
        run_order(children, "stumble")
    assert error.value.reason == "child.exception"
    assert error.value.detail.startswith("ValueError at ")
    assert "secret" not in error.value.detail


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("00000000", id="empty frame"),
        pytest.param("ffffffff05", id="endless frame"),
        pytest.param("0000000109", id="unknown kind"),
        pytest.param("0000000101", id="a request"),
        pytest.param("0000000405c1c1c1", id="no MessagePack"),
        pytest.param("00000002 0690", id="failure of another shape"),
    ],
)
def test_garbage_is_a_protocol_error(children: Children, raw: str) -> None:
    assert refused(children, "babble", raw.replace(" ", "")).startswith("child.protocol")


def test_result_of_another_type_is_a_protocol_error(children: Children) -> None:
    assert refused(children, "wrong_type").startswith("child.protocol")


def test_flood_is_cut_off(children: Children) -> None:
    heard: list[int] = []
    job = children.run(
        Role.CONFIG,
        Order(deed="flood"),
        Outcome,
        seconds=SECONDS,
        notices={Step: lambda step: heard.append(step.number)},
    )
    with pytest.raises(ChildError) as error:
        EventLoop().run(job)
    assert str(error.value) == "child.protocol: too many messages"
    assert len(heard) == TABLE[Role.CONFIG].messages


@pytest.mark.fault_row("R97")
def test_hanging_child_is_killed_at_its_deadline(children: Children) -> None:
    with pytest.raises(DeadlineError) as error:
        EventLoop().run(children.run(Role.CONFIG, Order(deed="hang"), Outcome, seconds=0.5))
    assert str(error.value) == "child.late: config: not done within 0.5 s"


def test_child_that_closes_its_channel_and_stays_is_killed(children: Children) -> None:
    assert refused(children, "close_channel") == "child.ended: config: silent, but still running"


def test_cancelled_job_leaves_no_child(children: Children) -> None:
    loop = EventLoop()

    async def main() -> None:
        job = children.run(Role.CONFIG, Order(deed="hang"), Outcome, seconds=SECONDS)
        task = loop.start(job, "job")
        await sleep(0.3)
        assert len(owned_pids()) == 1
        await task.stop()

    loop.run(main())


def test_prepared_child_waits_without_rights_and_does_one_job(children: Children) -> None:
    async def job() -> Outcome:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            (pid,) = owned_pids()
            while status_of(pid)["Seccomp"] != "2":
                await sleep(0.02)
            used = [prepared.is_used]
            outcome = await prepared.run(Order(deed="echo", text="a"), Outcome, seconds=SECONDS)
            used.append(prepared.is_used)
            assert used == [False, True]
            with pytest.raises(RuntimeError):
                await prepared.run(Order(deed="echo", text="b"), Outcome, seconds=SECONDS)
            return outcome

    assert EventLoop().run(job()).text == "a"


def test_prepared_child_lets_others_go_first_until_it_has_its_job(children: Children) -> None:
    def nice(pid: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, pid)

    async def job() -> tuple[int, int]:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            waiting = nice(prepared.pid)

            async def answer(question: Halt) -> Answer:
                return Answer(value=Continue(number=nice(question.pid)))

            outcome = await prepared.run(
                Order(deed="halt"), Outcome, seconds=SECONDS, answers={Halt: answer}
            )
            return waiting, outcome.number

    assert EventLoop().run(job()) == (19, nice(0))


def test_prepared_child_that_has_ended_says_so_when_it_is_asked(children: Children) -> None:
    async def job() -> None:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            os.kill(prepared.pid, signal.SIGKILL)
            await prepared.run(Order(deed="echo"), Outcome, seconds=SECONDS)

    with pytest.raises(ChildError) as error:
        EventLoop().run(job())
    assert str(error.value) == "child.ended: config: signal 9"


def test_prepared_child_that_is_never_asked_ends_with_its_block(children: Children) -> None:
    async def job() -> int:
        async with children.prepare(Role.CONFIG, fds={}):
            return len(owned_pids())

    assert EventLoop().run(job()) == 1


def test_prepared_child_is_dead_when_its_result_is_there(children: Children) -> None:
    """What it has written must not change under whoever checks it next."""

    async def job() -> tuple[Outcome, tuple[int, ...]]:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            order = Order(deed="linger", text="a")
            outcome = await prepared.run(order, Outcome, seconds=SECONDS)
            return outcome, owned_pids()

    outcome, owned = EventLoop().run(job())
    assert (outcome.text, tuple(owned)) == ("a", ())


def test_prepared_child_that_hangs_is_ended_at_the_jobs_deadline(children: Children) -> None:
    async def job() -> None:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            await prepared.run(Order(deed="hang"), Outcome, seconds=0.2)

    with pytest.raises(DeadlineError) as error:
        EventLoop().run(job())
    assert str(error.value) == "child.late: config: not done within 0.2 s"


def test_r78_storm_of_failing_children_all_report(children: Children) -> None:
    """No exit status is lost or taken for another's."""
    many, at_once = 120, 8

    async def one(number: int, seen: list[str]) -> None:
        order = Order(deed="end", number=number % 100 + 1)
        try:
            await children.run(Role.CONFIG, order, Outcome, seconds=120)
        except ChildError as error:
            seen.append(f"{number}: {error.detail}")

    async def main() -> list[str]:
        seen: list[str] = []
        for start in range(0, many, at_once):
            async with TaskGroup() as group:
                for number in range(start, start + at_once):
                    group.start(one(number, seen), "child")
        return seen

    expected = {f"{number}: config: exit code {number % 100 + 1}" for number in range(many)}
    assert set(EventLoop().run(main())) == expected
