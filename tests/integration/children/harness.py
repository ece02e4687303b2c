"""How the tests of children start one, ask it for a deed, and look at it from outside."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import RIGHTS, Role, Workspace
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop
from tests.fakes.machine.owned import owned_pids
from tests.integration.children.program import Continue, Halt, Order, Outcome

SECONDS = 30.0

needs_root = pytest.mark.usefixtures("as_root")


def run_order(
    children: Children,
    deed: str,
    text: str = "",
    number: int = 0,
    role: Role = Role.CONFIG,
    workspace: str = "",
) -> Outcome:
    order = Order(deed=deed, text=text, number=number)
    workspace = workspace or no_workspace(role)
    return EventLoop().run(children.run(role, order, Outcome, seconds=SECONDS, workspace=workspace))


def no_workspace(role: Role) -> str:
    """A path that grants nothing, for roles that must have one."""
    return "" if RIGHTS[role].workspace is Workspace.NONE else "/nonexistent"


def refused(
    children: Children, deed: str, text: str = "", number: int = 0, role: Role = Role.CONFIG
) -> str:
    """Return how the attempt failed; the same role must be able to do an honest job."""
    assert run_order(children, "echo", "hello", role=role).text == "hello"
    with pytest.raises(CcinitError) as error:
        run_order(children, deed, text, number, role)
    return str(error.value)


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines())


def look_at_child(children: Children, role: Role, look: Callable[[int], None]) -> Outcome:
    async def answer(question: Halt) -> Answer:
        (pid,) = owned_pids()  # as it is known here
        assert question.pid == (1 if RIGHTS[role].own_processes else pid)
        look(pid)
        return Answer(value=Continue(number=5))

    job = children.run(
        role,
        Order(deed="halt"),
        Outcome,
        seconds=SECONDS,
        answers={Halt: answer},
        workspace=no_workspace(role),
    )
    return EventLoop().run(job)
