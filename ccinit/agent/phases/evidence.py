"""Evidence of the platform, made by a child that has the device and no network.

The child that speaks to the KBS has no device and asks for evidence. Its first question is answered
by a child started along with it; later ones, when a session is renewed, by a new child each. The
owner plane and containers ask for evidence of their own.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.evidence import (
    EndorsementAnswer,
    EndorsementQuestion,
    EndorseRequest,
    EvidenceReply,
    EvidenceRequest,
)
from ccinit.agent.jobs.messages.kbs import EvidenceAnswer, EvidenceQuestion
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.platform.devices import open_platform, run_on_platform
from ccinit.agent.processes.children import PreparedChild
from ccinit.agent.processes.conversation import Answer, Answers
from ccinit.agent.processes.roles import Role
from ccinit.errors import ChildError, ConfigError
from ccinit.formats.evidence.tee import (
    MAX_VERIFIERS_REQUEST_BYTES,
    Binding,
    evidence_needs_network,
    evidence_needs_request,
    initdata_binding,
    is_judged_at_launch,
)
from ccinit.formats.initdata.document import document_digest

EVIDENCE_SECONDS = 90.0
"""Linux waits a minute for a busy secure processor, and then returns an error that says so."""
_ENDORSEMENT_SECONDS = 60.0  # part of EVIDENCE_SECONDS


async def answering(
    guest: Guest, configured: Configured, stack: AsyncExitStack
) -> Callable[[EvidenceQuestion], Awaitable[Answer]]:
    """Return the function that answers the questions of one KBS child while `stack` is open."""
    first = await _prepare_evidence(guest, configured, stack)

    async def answer(question: EvidenceQuestion) -> Answer:
        _keep_request(guest, configured, question.verifiers_request)
        evidence = await _make_evidence(
            guest, configured, question.report_data, question.verifiers_request, first
        )
        return Answer(value=EvidenceAnswer(evidence=evidence))

    return answer


async def _prepare_evidence(
    guest: Guest, configured: Configured, stack: AsyncExitStack
) -> PreparedChild | None:
    """Start the first evidence child, to load its code while the KBS's challenge is awaited.

    Returns None on platforms where opening the files needs the report data. It holds the files open
    meanwhile and not `evidence_lock`, or an event could not be measured as long as the KBS takes:
    none of these files is for one user (`ccinit.attest.detect`).
    """
    platform = configured.platform
    if platform.open_report is not None:
        return None
    with open_platform(platform, b"") as fds:
        prepare = guest.children.prepare(Role.EVIDENCE, fds=fds)
        return await stack.enter_async_context(prepare)


async def collect_evidence(guest: Guest, configured: Configured, report_data: bytes) -> bytes:
    """Return evidence over `report_data` as JSON text.

    Raises:
        ConfigError: `attest.launch_only`, the platform has none.
        CcinitError: it made none.
    """
    require_evidence(configured)
    # Read it now: during the wait for the lock, another verifier's request may replace it.
    needed = evidence_needs_request(configured.platform.tee)
    verifiers_request = guest.verifiers_request.text if needed else b""
    return await _make_evidence(guest, configured, report_data, verifiers_request)


async def _make_evidence(
    guest: Guest,
    configured: Configured,
    report_data: bytes,
    verifiers_request: bytes,
    waiting: PreparedChild | None = None,
) -> bytes:
    """Have the child `waiting` make evidence, or a new one if that has had its job already."""
    async with guest.evidence_lock:
        request = await _evidence_request(configured, report_data, verifiers_request)
        answers = _endorsements(guest, configured)
        if waiting is not None and not waiting.is_used:
            reply = await waiting.run(
                request, EvidenceReply, seconds=EVIDENCE_SECONDS, answers=answers
            )
        else:
            reply = await run_on_platform(
                guest,
                configured.platform,
                Role.EVIDENCE,
                request,
                EvidenceReply,
                report_data=report_data,
                seconds=EVIDENCE_SECONDS,
                answers=answers,
            )
    guest.figures.evidence_made += 1
    return reply.evidence


def _endorsements(guest: Guest, configured: Configured) -> Answers:
    """Answer a child that has a report but no network, by one that has only the network."""
    tee = configured.platform.tee
    if not evidence_needs_network(tee):
        return {}

    async def endorse(question: EndorsementQuestion) -> Answer:
        request = EndorseRequest(tee=tee, hardware=question.hardware)
        run = guest.children.run
        answer = await run(Role.ENDORSE, request, EndorsementAnswer, seconds=_ENDORSEMENT_SECONDS)
        return Answer(value=answer)

    return {EndorsementQuestion: endorse}


def require_evidence(configured: Configured) -> None:
    """Refuse on platforms without evidence.

    Raises:
        ConfigError: `attest.launch_only`.
    """
    if is_judged_at_launch(configured.platform.tee):
        raise ConfigError(
            "attest.launch_only",
            "the owner judged this launch once; there is no evidence, and nothing to fetch with it",
        )


def _keep_request(guest: Guest, configured: Configured, request: bytes) -> None:
    """Keep the verifier's request that the KBS child passed on; PID 1 does not parse it.

    Raises:
        ChildError: `child.protocol`, a request is missing, not expected on this platform, or too
            long.
    """
    needed = evidence_needs_request(configured.platform.tee)
    if bool(request) is not needed or len(request) > MAX_VERIFIERS_REQUEST_BYTES:
        raise ChildError("child.protocol", f"a request of {len(request)} bytes")
    if needed:
        guest.verifiers_request.text = request


async def _evidence_request(
    configured: Configured, report_data: bytes, verifiers_request: bytes
) -> EvidenceRequest:
    """Call under the lock: an event measured later would be in the register but not in `events`."""
    tee = configured.platform.tee
    place = initdata_binding(tee)
    stated = b""
    if place.binding is Binding.STATED:
        stated = document_digest(configured.document, place.algorithm)
    return EvidenceRequest(
        tee=tee,
        report_data=report_data,
        events=await configured.measurement.records(),
        initdata=stated,
        verifiers_request=verifiers_request,
    )
