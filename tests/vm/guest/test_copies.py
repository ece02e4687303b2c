"""A volume that closes although its owner was still copying one of its files."""

import os
import select
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_copies import OpenCopies
from ccinit.formats.planes.owner_rpc import WINDOW_BYTES, Stream
from ccinit.formats.planes.owner_wire import encode_request
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.mount import MountFlag, detach, mount
from ccinit.owner.messages import Flow, Port
from ccinit.owner.ports import OpenCall
from ccinit.owner.session import Call, Session
from tests.vm.guest.disks import blank, disk, dm_names, open_volume

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest


def copy(file: int, end: int, *, into: bool) -> None:
    """Copy for a client that stands still, as the child of its connection does."""
    session = Session()
    (call,) = session.feed(encode_request(1, "copy", ("web", "/data/file", into, 0o600)))
    assert isinstance(call, Call)
    port = Port(flow=Flow.INPUT, fd=Stream.INPUT) if into else Port(flow=Flow.OUTPUT, fd=1)
    opened = OpenCall(call, (port, Port(flow=Flow.END, fd=0)), (file, end))
    while not opened.is_over:
        poller = select.poll()
        for descriptor, events in opened.interests(session).items():
            poller.register(descriptor, events)
        opened.move(dict(poller.poll()), session)
    opened.close()
    signal.pause()  # the connection goes on


def start_copy(copies: OpenCopies, path: Path, *, into: bool) -> int:
    """Have a process of its own copy; return its number."""
    file = os.open(path, os.O_WRONLY if into else os.O_RDONLY)
    end = copies.begin(Caller(lambda _: None, b""), into=into)
    program = os.fork()
    if program == 0:
        try:
            copy(file, end, into=into)
        finally:
            os._exit(1)
    os.close(file)
    os.close(end)
    return program


@pytest.mark.parametrize("into", [False, True])
def test_volume_closes_although_its_owner_copies_a_file(
    tmp_path: Path,
    into: bool,  # noqa: FBT001
) -> None:
    blank(disk("volume"))
    shown, bound = tmp_path / "volume", tmp_path / "container"
    for place in (shown, bound):
        place.mkdir()
    loop, programs = EventLoop(), list[int]()
    copies = OpenCopies(cast("Guest", SimpleNamespace(loop=loop, event=lambda _: None)))

    async def copy_until_the_end() -> None:
        programs.append(start_copy(copies, bound / "file", into=into))
        await copies.end()

    with open_volume(disk("volume"), shown, may_create=True):
        mount(str(shown), str(bound), "", MountFlag.BIND)
        (bound / "file").write_bytes(bytes(2 * WINDOW_BYTES))
        loop.run(copy_until_the_end())
        detach(str(bound))  # as when the container's namespace ends
    assert dm_names() == set()
    (program,) = programs
    assert os.waitpid(program, os.WNOHANG) == (0, 0)  # it did not have to end for that
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)
