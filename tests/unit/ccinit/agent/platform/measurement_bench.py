"""A measurement whose register is in memory, and whose children die when they are told to."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.jobs.messages.measurement import ExtendReply, ExtendRequest
from ccinit.agent.platform.measurement import (
    RuntimeMeasurement,
    container_starts,
    image_pulled,
    workload_event,
)
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Node, Platform
from ccinit.errors import CcinitError, ChildError, DeadlineError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.tcg.event_log import Algorithm, encode_header, parse_event_log
from ccinit.kernel.task import Lock, sleep
from ccinit.measure.event_log import Extension, extend_register
from tests.fakes.machine.no_waiting import finish

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.formats.planes.host_rpc import Code

MANIFEST = Digest("ab" * 32)
REFERENCE = f"registry.example/shop@{MANIFEST}"
PULLED = image_pulled(REFERENCE, MANIFEST)
STARTS = container_starts("web", MANIFEST)


class Register:
    """In memory."""

    def __init__(self, algorithm: Algorithm = Algorithm.SHA384) -> None:
        self.algorithm = algorithm
        self.value = bytes(algorithm.digest_bytes)
        self.extends = 0

    def extend(self, digest: bytes) -> None:
        self.extends += 1
        self.value = self.algorithm.hash(self.value + digest)

    def read(self) -> bytes:
        return self.value


class FakeChildren:
    """Does the job in this process, and dies as often as it is told to, before or after it."""

    def __init__(self) -> None:
        self.register = Register()
        self.boundary = Register(Algorithm.SHA256)
        self.requests: list[ExtendRequest] = []
        self.deaths: list[str] = []

    async def run(
        self,
        role: Role,
        request: ExtendRequest,
        reply: type[ExtendReply],
        *,
        seconds: float,
        fds: dict[str, int],
    ) -> ExtendReply:
        assert role is Role.EXTEND
        assert seconds > 0
        assert list(fds) == ["register"]
        self.requests.append(request)
        death = self.deaths.pop(0) if self.deaths else ""
        if death == "stays":
            self._extend(request)
            await sleep(60)
        if death == "late":  # the hardware goes on with what it was given
            self._extend(request)
            raise DeadlineError("child.late", "extend: 60 s")
        if death == "before":
            raise ChildError("child.ended", "killed")
        value = self._extend(request)
        if death == "after":
            raise ChildError("child.ended", "killed")
        return reply(value=value)

    def _extend(self, request: ExtendRequest) -> bytes:
        extension = Extension(before=request.before, digests=request.digests)
        register = self.boundary if request.boundary else self.register
        return extend_register(register, extension, register.algorithm)


class Bench:
    """A measurement with its surroundings."""

    def __init__(self, register: Node | None, tee: Tee = Tee.TDX) -> None:
        self.children = FakeChildren()
        self.sealed: list[str] = []
        self.given_up: list[tuple[CcinitError, Code]] = []
        guest = SimpleNamespace(
            event=self.sealed.append,
            children=self.children,
            evidence_lock=Lock(),
            give_up=lambda *why: self.given_up.append(why),
        )
        self.lock = guest.evidence_lock
        platform = Platform(tee=tee, register=register)
        self.measurement = RuntimeMeasurement(cast("Guest", guest), platform)

    def measure(self) -> None:
        finish(self.measurement.measure())

    def measure_of_container(self, deaths: tuple[str, ...]) -> None:
        """Measure what a container says; it is told that this failed."""
        self.children.deaths = list(deaths)
        event = workload_event("web", "app", "seen", "it")
        with pytest.raises((ChildError, DeadlineError)):
            finish(self.measurement.measure_for_workload(event))

    def replays(self) -> bool:
        """Whether what goes with evidence leads to what the register holds."""
        records = encode_header(Algorithm.SHA384) + records_of(self)
        log = parse_event_log(records, Algorithm.SHA384)
        return log.replay(4, Algorithm.SHA384) == self.children.register.value


def records_of(bench: Bench) -> bytes:
    """Return what would go with evidence."""
    return finish(bench.measurement.records())
