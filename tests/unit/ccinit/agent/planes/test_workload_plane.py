"""The workload API's connections: what goes wrong with one is nobody else's."""

import errno
import socket
from types import SimpleNamespace
from typing import Any, Never

import pytest

from ccinit.agent.planes import workload_plane
from ccinit.agent.planes.workload_plane import MAX_CONNECTIONS_EACH, WorkloadPlane
from ccinit.errors import ChildError, KernelError
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from tests.fakes.machine.scarcity import count_descriptors

CONNECTIONS = MAX_CONNECTIONS_EACH + 1
"""So the last has a place only if one of the others has given its own back."""


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ChildError("child.ended", "workload: signal 9"), "child.ended: workload: signal 9"),
        (KernelError(errno.EMFILE, "pipe2", "1 pipes"), "kernel.pipe2: 1 pipes: errno 24 (EMFILE)"),
        (OSError(errno.EMFILE, "which nobody has named"), "kernel.call: OSError at "),
    ],
)
def test_connection_that_fails_is_told_and_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    sealed: list[str] = []
    coming = [socket.socketpair() for _ in range(CONNECTIONS)]

    async def accept(_listener: object) -> tuple[socket.socket, object]:
        await sleep(0)
        if not coming:
            await Event().wait()
        ours, theirs = coming.pop()
        theirs.close()
        return ours, ("127.0.0.1", 1)

    async def run(*_: object, **__: object) -> Never:
        await sleep(0)
        raise failure

    guest: Any = SimpleNamespace(
        children=SimpleNamespace(run=run), event=lambda text, _source: sealed.append(text)
    )
    service: Any = SimpleNamespace(answers=lambda _name: {})
    plane = WorkloadPlane(guest, service, 1.0)
    monkeypatch.setattr(workload_plane, "accept", accept)
    monkeypatch.setattr(plane, "_find_caller", lambda *_: "web")

    async def serve(loop: EventLoop) -> None:
        task = loop.start(plane.serve(socket.socket()), "plane")
        while len(sealed) < CONNECTIONS:
            await sleep(0)
        await task.stop()

    before = count_descriptors()
    loop = EventLoop()
    loop.run(serve(loop))
    assert all(text.startswith(f"workload: web: {told}") for text in sealed), sealed
    assert plane._connections.total() == 0
    assert count_descriptors() == before - 2 * CONNECTIONS
