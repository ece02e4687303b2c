"""A session with the KBS: the guest attests and fetches what it asks for, in one child `kbs`.

The child asks whenever it needs evidence (`evidence`). ATTEST has the first session; later phases,
and the planes, attest anew for what only they can name.
"""

import errno
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from ccinit.agent.guest import Guest, inner_seconds
from ccinit.agent.jobs.messages.kbs import (
    ClockAnswer,
    ClockQuestion,
    ConnectionAnswer,
    ConnectionQuestion,
    CounterStep,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Wanted,
)
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.evidence import answering, require_evidence
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import Role
from ccinit.boot.clock import advance_clock
from ccinit.errors import ChildError, DeadlineError, KernelError
from ccinit.formats.evidence.tee import evidence_needs_request
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT, KbsTransport, OwnerConfig
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.kbs.tls_identity import ExpectedIdentity, VerifiedIdentity
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.kernel.vsock import connect_to_host
from ccinit.secret import Secret
from ccinit.values import frozen, replace


@frozen
class Grant:
    """A released resource; `create` lets the guest format an empty disk with it.

    Attributes:
        identity: what the child found when it checked the guest's TLS identity.
        certificate_der: of that identity, what it shows; empty for other resources.
    """

    secret: Secret
    create: bool
    identity: VerifiedIdentity | None = None
    certificate_der: bytes = b""


def want(manifest: PodManifest, resources: Mapping[KbsUri, EnvelopeKind]) -> tuple[Wanted, ...]:
    """Return what to ask for each of `resources`, by what the manifest's secrets say of it."""
    return tuple(
        Wanted(
            uri=uri,
            kind=kind,
            sealed=tuple(
                secret.sealed
                for secret in manifest.secrets
                if secret.uri == uri and secret.sealed is not None
            ),
        )
        for uri, kind in resources.items()
    )


def want_identity(manifest: PodManifest, owner: OwnerConfig, top_der: bytes = b"") -> Wanted:
    """Say what the guest's TLS identity has to be; `top_der` is as in ExpectedIdentity."""
    return Wanted(
        uri=tls_identity_uri(manifest),
        kind=EnvelopeKind.TLS_IDENTITY,
        identity=ExpectedIdentity(
            pod=manifest.name, roots_pem=owner.client_ca_pem, top_der=top_der
        ),
    )


async def fetch_grants(
    guest: Guest, configured: Configured, wanted: tuple[Wanted, ...]
) -> dict[KbsUri, Grant]:
    """Attest anew and fetch what only a later phase could name; the caller wipes it.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: as `request_resources`.
    """
    return take_grants(await request_resources(guest, configured, wanted))


def take_grants(reply: KbsReply) -> dict[KbsUri, Grant]:
    """Wrap every secret of a reply; the caller wipes them."""
    return {
        released.uri: Grant(
            secret=Secret(released.data),
            create=released.create,
            identity=released.identity,
            certificate_der=released.certificate_der,
        )
        for released in reply.released
    }


def wipe_grants(grants: Mapping[KbsUri, Grant]) -> None:
    """Overwrite every secret."""
    for grant in grants.values():
        grant.secret.wipe()


async def request_token(guest: Guest, configured: Configured) -> str:
    """Attest anew and return the KBS's attestation result; the session's key dies with its child.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: as `request_resources`.
    """
    return (await request_resources(guest, configured, (), with_token=True)).token


async def request_debug_grant(guest: Guest, configured: Configured) -> tuple[DebugGrant, int]:
    """Attest anew and return the grant for the key of that session, and the KBS's time.

    Raises:
        VerificationError, FormatError: `debug.…`, `envelope.…`.
        PeerError, DeadlineError: as `request_resources`.
    """
    uri = ResourceUri("ccinit", configured.manifest.name, EnvelopeKind.DEBUG_GRANT.value)
    reply = await request_resources(guest, configured, (), debug_grant=uri)
    if reply.debug_grant is None:
        raise ChildError("child.protocol", "the KBS child brought no debug grant")
    return reply.debug_grant, reply.date


async def request_resources(
    guest: Guest,
    configured: Configured,
    wanted: tuple[Wanted, ...],
    *,
    with_token: bool = False,
    counters: tuple[CounterStep, ...] = (),
    debug_grant: ResourceUri | None = None,
    has_clock: bool = True,
    max_seconds: float = float("inf"),
) -> KbsReply:
    """Do the handshake in a child and return all of `wanted` and `counters`, in their order.

    Before the clock is set, certificates' dates are not checked; the reply tells the time. A clock
    that is late is set forward by it. All this takes at most `limits.attest_seconds`,
    `max_seconds`, or the time left in the phase.

    Raises:
        ConfigError: `attest.launch_only`, the platform has no evidence for a KBS.
        ChildError: `child.protocol`, other resources came back.
        PeerError, VerificationError, FormatError, DeadlineError: `kbs.…`, `net.…`, `envelope.…`.
    """
    require_evidence(configured)
    async with AsyncExitStack() as stack:
        answer = await answering(guest, configured, stack)
        limit = min(configured.config.limits.attest_seconds, max_seconds)
        seconds = guest.phase_time.left(limit)
        request = replace(
            _kbs_request(configured, wanted, seconds),
            with_token=with_token,
            counters=counters,
            debug_grant=debug_grant,
            has_clock=has_clock,
        )
        reply = await _run_kbs_child(guest, request, answer, seconds)
    asked = [(one.uri, one.identity is not None) for one in wanted]
    checked = [(one.uri, one.identity is not None) for one in reply.released]
    shown = [(one.uri, bool(one.certificate_der)) for one in reply.released]
    if not asked == checked == shown or len(reply.counters) != len(counters):
        raise ChildError("child.protocol", "the KBS child brought other resources than asked for")
    if has_clock:
        _follow_clock(guest, reply.date)
    return reply


def _follow_clock(guest: Guest, seconds: int) -> None:
    """Set a late clock to the KBS's time, and log how late it was.

    Raises:
        VerificationError: `clock.ceiling`.
    """
    late = advance_clock(seconds)
    if late:
        guest.event(f"clock: {late} s late, set forward to what the KBS says")
        guest.clock_doubted.set()


async def _run_kbs_child(
    guest: Guest,
    request: KbsRequest,
    answer: Callable[[EvidenceQuestion], Awaitable[Answer]],
    seconds: float,
) -> KbsReply:
    async def set_forward(question: ClockQuestion) -> Answer:
        _follow_clock(guest, question.seconds)
        return Answer(value=ClockAnswer())

    answers: dict[type, Callable[..., Awaitable[Answer]]] = {EvidenceQuestion: answer}
    if request.has_clock:
        answers[ClockQuestion] = set_forward
    if request.transport is KbsTransport.VSOCK:
        answers[ConnectionQuestion] = _connect_to_relay
    return await guest.children.run(Role.KBS, request, KbsReply, seconds=seconds, answers=answers)


def _kbs_request(configured: Configured, wanted: tuple[Wanted, ...], seconds: float) -> KbsRequest:
    """Return the request for `wanted`, and for a child that has `seconds` for it."""
    config, tee = configured.config, configured.platform.tee
    return KbsRequest(
        url=config.kbs.url,
        ca_pem=config.kbs.ca_pem,
        transport=config.kbs.transport,
        tee=tee,
        document=configured.document.decode(),
        envelope=config.kbs.envelope,
        tee_key_algorithm=config.kbs.tee_key_algorithm,
        passport=config.kbs.passport,
        wanted=wanted,
        devices=configured.platform.devices,
        parameters=configured.parameters if evidence_needs_request(tee) else b"",
        # Less than the child's own deadline, which would otherwise come first, without a reason.
        seconds=inner_seconds(seconds),
    )


async def _connect_to_relay(question: ConnectionQuestion) -> Answer:
    """Connect to the host's relay; if it is not there (yet), the child is told, and may retry."""
    try:
        connection = await connect_to_host(KBS_VSOCK_PORT, question.milliseconds / 1000)
    except KernelError as error:
        return Answer(value=ConnectionAnswer(errno=error.errno or errno.EIO))
    except DeadlineError:
        return Answer(value=ConnectionAnswer(errno=errno.ETIMEDOUT))
    return Answer(value=ConnectionAnswer(errno=0), fds=(connection.detach(),))
