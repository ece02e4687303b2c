"""What a child's job is given, and what it returns.

Needs root, for the change of user, and a kernel with Landlock (ABI 6) and seccomp.
"""

import os
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import ChildError, VerificationError
from ccinit.kernel.event_loop import EventLoop
from ccinit.secret import Secret
from tests.integration.children.harness import (
    SECONDS,
    look_at_child,
    needs_root,
    refused,
    run_order,
)
from tests.integration.children.program import Continue, Halt, Order, Outcome, Step

pytestmark = needs_root


def test_job_returns_its_result(children: Children) -> None:
    outcome = run_order(children, "echo", "hello", 7)
    assert outcome == Outcome(text="hello", number=7)


def test_large_request_and_result_pass_whole(children: Children) -> None:
    assert len(run_order(children, "echo", "x" * 3_000_000).text) == 3_000_000


def test_result_above_the_cap_is_refused(children: Children) -> None:
    cap = RIGHTS[Role.CONFIG].reply_bytes
    assert len(run_order(children, "grow", number=cap - 64).data) == cap - 64
    with pytest.raises(ChildError) as error:
        run_order(children, "grow", number=cap)
    assert error.value.reason == "child.protocol"


def test_question_is_answered_by_its_handler(children: Children) -> None:
    assert look_at_child(children, Role.CONFIG, lambda _: None).number == 5


def test_handlers_failure_ends_the_job_and_is_raised(children: Children) -> None:
    def look(_: int) -> None:
        raise VerificationError("pull.policy", "no")

    with pytest.raises(VerificationError) as error:
        look_at_child(children, Role.CONFIG, look)
    assert error.value.reason == "pull.policy"


def test_question_that_nobody_answers_is_refused(children: Children) -> None:
    assert refused(children, "halt").startswith("child.protocol")


def test_notices_arrive_in_order(children: Children) -> None:
    heard: list[int] = []
    outcome = EventLoop().run(
        children.run(
            Role.CONFIG,
            Order(deed="count", number=50),
            Outcome,
            seconds=SECONDS,
            notices={Step: lambda step: heard.append(step.number)},
        )
    )
    assert outcome.number == 50
    assert heard == list(range(50))


def test_answer_can_carry_an_fd(children: Children, tmp_path: Path) -> None:
    path = tmp_path / "out"

    async def answer(_question: Halt) -> Answer:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        return Answer(value=Continue(), fds=(fd,))

    EventLoop().run(
        children.run(
            Role.CONFIG,
            Order(deed="write_given_fd", text="written"),
            Outcome,
            seconds=SECONDS,
            answers={Halt: answer},
        )
    )
    assert path.read_text() == "written"


def test_fd_from_a_child_is_dropped(children: Children) -> None:
    outcome = run_order(children, "pass_fd_by_another_call", role=Role.KBS)
    assert outcome.text == "with fd"


def test_secret_reaches_the_job_by_pipe(children: Children) -> None:
    with Secret(b"0123456789") as secret:
        outcome = EventLoop().run(
            children.run(
                Role.CONFIG,
                Order(deed="read_secret"),
                Outcome,
                seconds=SECONDS,
                secrets={"key": secret},
            )
        )
    assert outcome.data == b"9876543210"


def test_jobs_own_garbage_is_collected_and_its_modules_are_left_alone(children: Children) -> None:
    outcome = run_order(children, "leave_garbage")
    assert (outcome.text, outcome.number >= 1) == ("True", True)
    assert len(outcome.data) > 1000


def test_child_has_exactly_the_listed_fds(children: Children) -> None:
    stray = os.dup(0)
    os.set_inheritable(stray, True)  # noqa: FBT003
    # even one that is not close-on-exec
    given = os.open("/dev/null", os.O_RDONLY)
    try:
        outcome = EventLoop().run(
            children.run(
                Role.CONFIG,
                Order(deed="list_fds"),
                Outcome,
                seconds=SECONDS,
                fds={"given": given},
            )
        )
    finally:
        os.close(given)
        os.close(stray)
    assert outcome == Outcome(text="0 1 2 3 4", number=4)
