"""ATTEST: the handshake with the KBS, the resources that it releases, and the time that it tells.

1. what the manifest names is fetched in one session of the child `kbs`, which asks whenever it
   needs evidence (`evidence`); or it is read from the secrets of the launch (`launch_secrets`);
2. what was released is wrapped in `Secret`s, one for each use, which are wiped when the guest ends;
3. the clock is set to the time that came with them;
4. the log's key is bound, if that was not possible before, and mixed with the owner's.

Later phases, and the planes, attest anew for what only they can name: `request_resources`.
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
from ccinit.agent.phases.launch_secrets import read_launch_secrets
from ccinit.agent.phases.log_binding import bind_log
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import undoing
from ccinit.boot.clock import advance_clock, format_utc, read_build_time, set_clock
from ccinit.errors import ChildError, ConfigError, DeadlineError, KernelError
from ccinit.formats.evidence.log_key import encode_log_evidence
from ccinit.formats.evidence.tee import (
    evidence_needs_request,
    is_judged_at_launch,
)
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT, KbsTransport, OwnerConfig
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.launch_secret import vouch_for_log
from ccinit.formats.kbs.resource_uri import KbsUri, PluginUri, ResourceUri
from ccinit.formats.kbs.tls_identity import ExpectedIdentity, VerifiedIdentity
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import (
    log_psk_uri,
    name_counters,
    name_policies,
    name_resources,
    tls_identity_uri,
)
from ccinit.kernel.event_loop import Lock
from ccinit.kernel.vsock import connect_to_host
from ccinit.pull.messages.fetch import PolicyKey
from ccinit.secret import Secret
from ccinit.values import field, frozen, replace


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


@frozen
class Attested:
    """What the owner's KBS released to this boot.

    Attributes:
        grants: by URI; rotation replaces secrets in it, renewal the TLS identity.
        rotating: held during a rotation.
        uneven: secrets that a rotation failed to replace everywhere: some of their files may differ
            from the grant.
        policy_keys: public keys and roots that image policies name.
        counters: the KBS's values of the volumes' rollback counters.
    """

    grants: dict[KbsUri, Grant]
    policy_keys: tuple[PolicyKey, ...] = ()
    counters: Mapping[PluginUri, int] = field(default_factory=dict)
    rotating: Lock = field(default_factory=Lock)
    uneven: set[KbsUri] = field(default_factory=set)


async def attest(guest: Guest, configured: Configured) -> Attested:
    """Attest this guest; see the module's steps.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: `kbs.…`, `net.…`, `envelope.…`.
    """
    wanted = plan_resources(configured.manifest, configured.config.owner)
    counters = plan_counters(configured.manifest)
    tee = configured.platform.tee
    if is_judged_at_launch(tee):
        if counters:
            raise ConfigError("attest.launch_only", f"on {tee} nobody keeps a rollback counter")
        reply = await read_launch_secrets(guest, configured, wanted)
    else:
        reply = await request_resources(
            guest, configured, wanted, counters=counters, has_clock=False
        )
    grants = _grants(reply)
    guest.teardown.push("secrets", undoing(lambda: wipe_grants(grants)))
    set_clock(reply.date, read_build_time())
    psk = grants[log_psk_uri(configured.manifest)].secret
    if is_judged_at_launch(tee):
        voucher = vouch_for_log(psk.reveal(), guest.log.binding)
        guest.log.bind(encode_log_evidence(tee, voucher))
    else:
        await bind_log(guest, configured, Phase.ATTEST)
    guest.log.mix(psk)
    psk.wipe()  # it is needed only once
    # The host may show a whole log of an earlier boot in place of this one's.
    guest.event(f"clock: set to {format_utc(reply.date)}")
    policy_keys = tuple(
        PolicyKey(resource=str(released.uri), data=released.data) for released in reply.policy_keys
    )
    steps = zip(counters, reply.counters, strict=True)
    known = {step.uri: counter for step, counter in steps}
    return Attested(grants=grants, policy_keys=policy_keys, counters=known)


async def fetch_grants(
    guest: Guest, configured: Configured, wanted: tuple[Wanted, ...]
) -> dict[KbsUri, Grant]:
    """Attest anew and fetch what only a later phase could name; the caller wipes it.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: as `attest`.
    """
    return _grants(await request_resources(guest, configured, wanted))


def _grants(reply: KbsReply) -> dict[KbsUri, Grant]:
    return {
        released.uri: Grant(
            secret=Secret(released.data),
            create=released.create,
            identity=released.identity,
            certificate_der=released.certificate_der,
        )
        for released in reply.released
    }


async def request_token(guest: Guest, configured: Configured) -> str:
    """Attest anew and return the KBS's attestation result; the session's key dies with its child.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: as `attest`.
    """
    return (await request_resources(guest, configured, (), with_token=True)).token


async def request_debug_grant(guest: Guest, configured: Configured) -> tuple[DebugGrant, int]:
    """Attest anew and return the grant for the key of that session, and the KBS's time.

    Raises:
        VerificationError, FormatError: `debug.…`, `envelope.…`.
        PeerError, DeadlineError: as `attest`.
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
        CcinitError: as `attest`.
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


def plan_resources(manifest: PodManifest, owner: OwnerConfig | None = None) -> tuple[Wanted, ...]:
    """List what this pod needs from the KBS; see `ccinit.formats.pod.resources`."""
    named = name_resources(manifest, with_identity=owner is not None)
    policies = name_policies(manifest)
    wanted = tuple(replace(one, is_policy=one.uri in policies) for one in want(manifest, named))
    if owner is None:
        return wanted
    identity = want_identity(manifest, owner)
    return tuple(identity if one.uri == identity.uri else one for one in wanted)


def want_identity(manifest: PodManifest, owner: OwnerConfig, top_der: bytes = b"") -> Wanted:
    """Say what the guest's TLS identity has to be; `top_der` is as in ExpectedIdentity."""
    return Wanted(
        uri=tls_identity_uri(manifest),
        kind=EnvelopeKind.TLS_IDENTITY,
        identity=ExpectedIdentity(
            pod=manifest.name, roots_pem=owner.client_ca_pem, top_der=top_der
        ),
    )


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


def plan_counters(manifest: PodManifest) -> tuple[CounterStep, ...]:
    """List the rollback counters to read in the session that fetches the resources."""
    return tuple(CounterStep(uri=uri) for uri in name_counters(manifest))


def wipe_grants(grants: Mapping[KbsUri, Grant]) -> None:
    """Overwrite every secret."""
    for grant in grants.values():
        grant.secret.wipe()
