"""A connection of the owner, with every kind of stream, stopped at each wait: nothing stays."""

import os
import socket
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.planes import owner_service
from ccinit.agent.planes.owner_plane import OwnerPlane
from ccinit.agent.planes.owner_service import OwnerService
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.planes.owner_rpc import ClientRole
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import Event, EventLoop, readable, sleep
from ccinit.kernel.process import ExitStatus
from ccinit.owner.messages import Attach, Attest, ConnectionEnd, Exec, Greeting, Logs, OwnerCall
from ccinit.seal.log import SealedLog
from ccinit.secret import Secret
from tests.fakes.machine.interruptions import Way, each_stop
from tests.fakes.machine.scarcity import count_descriptors

CALLS: tuple[OwnerCall, ...] = (
    Logs(container="", since=0, follow=True),
    Attach(container="web"),
    Exec(container="web", args=("/bin/id",), tty=False, rows=0, columns=0),
    Exec(container="web", args=("/bin/sh",), tty=True, rows=24, columns=80),
    Attest(nonce=bytes(32)),
)


class Program:
    """One that does not end by itself."""

    def __init__(self) -> None:
        self.is_killed = self.is_disowned = False

    async def wait(self) -> ExitStatus:
        await Event().wait()
        raise AssertionError

    def kill(self) -> None:
        self.is_killed = True

    def disown(self) -> None:
        self.is_disowned = True


class Container:
    """Starts programs, which takes a while."""

    def __init__(self) -> None:
        self.life = SimpleNamespace(is_final=False)
        self.programs: list[Program] = []

    async def exec(self, _arguments: object, **_streams: int) -> Program:
        await sleep(0)
        self.programs.append(Program())
        return self.programs[-1]

    async def exec_on_terminal(self, _arguments: object, **_size: int) -> tuple[Program, int]:
        await sleep(0)
        self.programs.append(Program())
        return self.programs[-1], os.memfd_create("terminal")


class Client:
    """The child of a connection, whose client makes every call and then goes."""

    def __init__(self, guest: Any) -> None:
        self._guest = guest

    async def run(
        self,
        *_job: object,
        answers: Mapping[type, Any],
        notices: Mapping[type, Any],
        **_: object,
    ) -> ConnectionEnd:
        await sleep(0)
        notices[Greeting](Greeting(role=ClientRole.ADMIN, subject="ops", group=0x11EC))
        given: list[int] = []
        try:
            for call in CALLS:
                answer = await answers[type(call)](call)
                given += dict.fromkeys(answer.fds)
                await sleep(0)
            self._guest.log.append(Kind.STDOUT, "web", b"hello")
            await readable(given[0])
        finally:
            for fd in given:
                os.close(fd)
        return ConnectionEnd(why="")


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def collect_evidence(*_: object) -> bytes:
        await sleep(0)
        return b"{}"

    monkeypatch.setattr(owner_service, "collect_evidence", collect_evidence)
    guest: Any = SimpleNamespace(
        containers={},
        log=SealedLog(),
        state=SimpleNamespace(phase=Phase.RUN),
        event=lambda _: None,
        clock_doubted=Event(),
    )
    guest.children = Client(guest)
    return guest


def open_plane(guest: Any) -> tuple[OwnerPlane, OwnerService]:
    manifest = SimpleNamespace(
        containers=(SimpleNamespace(name="web"),), allow=SimpleNamespace(exec=("web",))
    )
    platform = SimpleNamespace(tee=Tee.TPM)
    configured: Any = SimpleNamespace(manifest=manifest, platform=platform)
    attested: Any = None
    service = OwnerService(guest=guest, configured=configured, attested=attested)
    config = OwnerConfig(port=0, client_ca_pem="")
    identity = Grant(secret=Secret(b"identity"), create=False, certificate_der=b"certificate")
    return OwnerPlane(guest, config, identity, service), service


def test_connection_that_is_stopped_leaves_no_stream_no_program_and_its_place(guest: Any) -> None:
    async def attend(plane: OwnerPlane) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            async with plane._group:
                plane.take(ours)

    before = count_descriptors()
    for stop in each_stop():
        guest.containers["web"] = container = Container()
        plane, service = open_plane(guest)
        failure = EventLoop().run(stop.attempt(attend(plane)))
        if stop.way is not Way.REFUSED:  # what is the connection's fault ends nothing else
            stop.verify(failure)
        assert (count_descriptors(), service.is_attesting) == (before, False), stop
        assert plane._known == sum(plane._strangers.values()) == 0, stop
        for program in container.programs:
            assert program.is_killed, stop
            assert program.is_disowned, stop
    assert len(container.programs) == 2
