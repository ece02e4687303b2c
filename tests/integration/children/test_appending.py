"""The child that decompresses cannot change what it has appended to a tar.

The next child has hashed it by then, and does not read it again.
"""

import os
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import Role
from ccinit.errors import ChildError
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.tar_files import TarFiles
from tests.integration.children.harness import SECONDS, needs_root
from tests.integration.children.program import Continue, Halt, Order, Outcome

pytestmark = needs_root

WRITTEN, KILLED = b"as it was", "signal 31, a system call outside its set"


def change(children: Children, directory: Path, way: str, role: Role = Role.UNPACK) -> bytes:
    """Have a child try it; return what the file has then."""
    tars = TarFiles(str(directory), range(1), LayerForm.INDEX)

    async def answer(_question: Halt) -> Answer:
        return Answer(value=Continue(), fds=tars.open_to_append(0))

    order = Order(deed="change_what_is_written", text=way)
    job = children.run(role, order, Outcome, seconds=SECONDS, answers={Halt: answer})
    try:
        EventLoop().run(job)
    finally:
        (file,) = tars.open_to_verify(0)
        content = os.read(file, 100)
        os.close(file)
    return content


@pytest.mark.parametrize(
    ("way", "end"),
    [
        ("flags", "PermissionError"),
        ("pwrite", KILLED),
        ("pwritev2", KILLED),
        ("truncate", KILLED),
        ("punch", KILLED),
        ("map", "PermissionError"),
        ("reopen", "PermissionError"),
    ],
)
def test_what_was_appended_stays(children: Children, tmp_path: Path, way: str, end: str) -> None:
    with pytest.raises(ChildError, match=end):
        change(children, tmp_path, way)
    assert (tmp_path / "layer-0.tar").read_bytes() == WRITTEN


def test_what_is_written_elsewhere_is_appended(children: Children, tmp_path: Path) -> None:
    assert change(children, tmp_path, "seek") == WRITTEN + b"changed"


@pytest.mark.parametrize("way", ["flags", "truncate"])
def test_another_child_could(children: Children, tmp_path: Path, way: str) -> None:
    """The control: it is the filter of this role that forbids it."""
    assert change(children, tmp_path, way, Role.LAYERS).startswith(b"changed")
