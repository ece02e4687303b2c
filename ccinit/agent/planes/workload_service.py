"""What each call of the workload API does in this guest, and for which container.

The caller's name comes from the kernel (`workload_plane`), never from the call. A call is carried
out only if the measured manifest allows it (else 403), and the log says for whom. A container gets
the resources that the manifest gives it; evidence, token and event log are for containers named in
`[allow].evidence`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.evidence import EVIDENCE_SECONDS, collect_evidence
from ccinit.agent.phases.kbs_session import request_token
from ccinit.agent.platform.measurement import workload_event
from ccinit.agent.processes.conversation import Answer, Answers
from ccinit.errors import CcinitError, as_known
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.planes.workload_api import (
    EventCall,
    EvidenceCall,
    InfoCall,
    ResourceCall,
    TokenCall,
    WorkloadCall,
    report_data,
)
from ccinit.kernel.event_loop import Lock, deadline
from ccinit.workload.messages import MediaType, WorkloadAnswer

VERSION = "ccinit/1"
SOURCE = "workload"
"""Source of events that calls of containers cause."""
_OWN_FAULTS = ("aael.", "event_log.workload")
"""Reasons of errors that the container itself has caused: malformed or too many events.

Malformed data of the KBS or the platform is not its fault.
"""
_NO_REGISTER = "no register of this platform is for events: it is in the sealed log only"
_NO_TURN = "workload.turn"
_TURN_SPARE_SECONDS = 10.0  # beyond the call before this one: for its child's end


class RefusedCall(Exception):  # noqa: N818  # an answer, not a fault
    """The manifest does not allow a call; the container is told status 403 and the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WorkloadService:
    """Answers containers.

    Attributes:
        evidence_lock: shared by all containers, so that others who need the guest's own lock
            (`Guest.evidence_lock`) wait for one container at most, not for all that ask.
        token_lock: likewise for handshakes. Separate, because a handshake that the KBS does not
            answer is retried for minutes, and evidence needs no KBS.
    """

    def __init__(self, *, guest: Guest, configured: Configured, attested: Attested) -> None:
        self.guest = guest
        self.configured = configured
        self.attested = attested
        self.evidence_lock = Lock()
        self.token_lock = Lock()
        self._attest_seconds = configured.config.limits.attest_seconds

    def answers(self, container: str) -> Answers:
        """Return the functions that answer the question of one connection's child."""
        return {kind: partial(self._answer, container) for kind in HANDLERS}

    async def _answer(self, container: str, call: WorkloadCall) -> Answer:
        try:
            answer = await HANDLERS[type(call)](self, container, call)
        except RefusedCall as refused:
            self._tell(f"{container}: {call.name} refused, {refused.reason}")
            return _text(403, refused.reason)
        except (CcinitError, OSError) as error:  # a bare OSError is a refusal by the kernel, too
            known = as_known(error)
            self._tell(f"{container}: {call.name} failed, {known}")
            return _text(_status(known.reason), known.reason)
        self._tell(f"{container}: {call.name}")
        return answer

    def _tell(self, what: str) -> None:
        self.guest.event(f"workload: {what}", SOURCE)

    async def resource(self, container: str, call: ResourceCall) -> Answer:
        """Return a resource that the manifest gives to this container.

        Another container's resource is refused just like one that nobody has.
        """
        given = {one.uri for one in self.configured.manifest.secrets if one.container == container}
        if call.uri not in given:
            raise RefusedCall("workload.resource")
        secret = self.attested.grants[call.uri].secret
        return _done(MediaType.BYTES, secret.reveal())

    async def token(self, container: str, _call: TokenCall) -> Answer:
        """Attest to the KBS and return its result, without the session's key."""
        self._require_evidence(container)
        async with _turn(self.token_lock, self._attest_seconds):
            token = await request_token(self.guest, self.configured)
        return _done(MediaType.JSON, canonical_json({"token": token}))

    async def evidence(self, container: str, call: EvidenceCall) -> Answer:
        """Make evidence over this container's bytes, in a domain that is this container's alone."""
        self._require_evidence(container)
        expected = report_data(container, call.runtime_data)
        async with _turn(self.evidence_lock, EVIDENCE_SECONDS):
            evidence = await collect_evidence(self.guest, self.configured, expected)
        return _done(MediaType.JSON, evidence)

    async def event(self, container: str, call: EventCall) -> Answer:
        """Add to the event log, under the container's own domain.

        The texts are CoCo's: "false" says that no register, and so no evidence, shows the event.
        """
        self._require_evidence(container)
        event = workload_event(container, call.domain, call.operation, call.content)
        measurement = self.configured.measurement
        await measurement.measure_for_workload(event)
        said = {"success": "true"}
        if not measurement.has_register:
            said = {"success": "false", "message": _NO_REGISTER}
        return _done(MediaType.JSON, canonical_json(said))

    async def info(self, container: str, _call: InfoCall) -> Answer:
        """Describe this guest."""
        is_attester = container in self.configured.manifest.allow.evidence
        return _done(
            MediaType.JSON,
            canonical_json(
                {
                    "additional_tees": [],
                    "feature": "all" if is_attester else "resource",
                    "tee": self.configured.platform.tee.value,
                    "version": VERSION,
                }
            ),
        )

    def _require_evidence(self, container: str) -> None:
        if container not in self.configured.manifest.allow.evidence:
            raise RefusedCall("workload.allow")


Handler = Callable[[WorkloadService, str, Any], Awaitable[Answer]]

HANDLERS: Mapping[type[WorkloadCall], Handler] = {
    ResourceCall: WorkloadService.resource,
    TokenCall: WorkloadService.token,
    EvidenceCall: WorkloadService.evidence,
    EventCall: WorkloadService.event,
    InfoCall: WorkloadService.info,
}


@asynccontextmanager
async def _turn(lock: Lock, seconds: float) -> AsyncIterator[None]:
    """Take the lock, waiting at most as long as one other call, of up to `seconds`, may take.

    A caller that would wait longer gets an error before its connection's own time is over.

    Raises:
        DeadlineError: `workload.turn`.
    """
    async with AsyncExitStack() as stack:
        async with deadline(seconds + _TURN_SPARE_SECONDS, _NO_TURN, "others wait before it"):
            await stack.enter_async_context(lock)
        yield


def _status(reason: str) -> int:
    if reason == _NO_TURN:
        return 503
    return 400 if reason.startswith(_OWN_FAULTS) else 500


def _done(media_type: MediaType, body: bytes) -> Answer:
    return Answer(value=WorkloadAnswer(status=200, media_type=media_type, body=body))


def _text(status: int, reason: str) -> Answer:
    body = f"{reason}\n".encode()
    return Answer(value=WorkloadAnswer(status=status, media_type=MediaType.TEXT, body=body))
