"""ATTEST: evidence for the KBS, the resources that it releases, and the clock that it tells.

The child `kbs` holds the session; whenever it needs evidence it asks, and a second child that has
the platform's device, and no network, makes it: the first time one that was started along with it,
later, if a session is renewed, a new one each time. What comes back is wrapped into `Secret`s here,
one for each use, and wiped with the guest.
"""

import errno
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from ccinit.agent.children import Answer, Answers, PreparedChild
from ccinit.agent.configuration import Configured
from ccinit.agent.devices import open_platform, run_on_platform
from ccinit.agent.guest import Guest, undoing
from ccinit.agent.launch_secrets import read_launch_secrets
from ccinit.agent.log_pace import keep_pace
from ccinit.agent.messages import (
    ConnectionAnswer,
    ConnectionQuestion,
    CounterStep,
    EndorsementAnswer,
    EndorsementQuestion,
    EndorseRequest,
    EvidenceAnswer,
    EvidenceQuestion,
    EvidenceReply,
    EvidenceRequest,
    KbsReply,
    KbsRequest,
    Wanted,
)
from ccinit.agent.roles import Role
from ccinit.boot.clock import read_build_time, set_clock
from ccinit.errors import ChildError, ConfigError, DeadlineError, KernelError
from ccinit.formats.debug_grant import DebugGrant
from ccinit.formats.envelope import EnvelopeKind
from ccinit.formats.guest_config import KBS_VSOCK_PORT, KbsTransport
from ccinit.formats.initdata import document_digest
from ccinit.formats.launch_secret import vouch_for_log
from ccinit.formats.log_evidence import encode_log_evidence
from ccinit.formats.pod_manifest import PodManifest
from ccinit.formats.pod_resources import log_psk_uri, name_counters, name_resources
from ccinit.formats.pod_volume import Volume
from ccinit.formats.resource_uri import KbsUri, PluginUri, ResourceUri
from ccinit.formats.sealed_log import BootId, report_data
from ccinit.formats.tee import (
    MAX_VERIFIERS_REQUEST_BYTES,
    Binding,
    evidence_needs_network,
    evidence_needs_request,
    initdata_binding,
    is_judged_at_launch,
)
from ccinit.kernel.entropy import random_bytes
from ccinit.kernel.vsock_stream import connect_to_host
from ccinit.pull.messages import PolicyKey
from ccinit.secret import Secret
from ccinit.values import field, frozen

_EVIDENCE_SECONDS = 60.0
_BOOT_ID_BYTES = 16


@frozen
class Grant:
    """A released resource; `create` lets the guest format an empty disk with it."""

    secret: Secret
    create: bool


@frozen
class Attested:
    """What the owner's KBS gave to this boot.

    Attributes:
        grants: rotation replaces secrets in it.
        policy_keys: public keys and roots that image policies name.
        counters: how far the KBS says that volumes are, those with a rollback counter.
    """

    grants: dict[KbsUri, Grant]
    policy_keys: tuple[PolicyKey, ...] = ()
    counters: Mapping[PluginUri, int] = field(default_factory=dict)

    def volume_grant(self, volume: Volume) -> Grant:
        """The grant of a persistent volume; the manifest's grammar gives each of them a key."""
        if volume.key is None:
            raise RuntimeError(f"{volume.name} has no key")
        return self.grants[volume.key]


def open_log(guest: Guest, configured: Configured) -> bytes:
    """Begin the sealed stream as its owner wants it; return the report data that binds its key.

    Raises:
        FormatError: `seal.owner_key`.
    """
    log, capacity = configured.config.log, configured.config.limits.log_ring_bytes
    guest.log.arrange(capacity=capacity, batch_bytes=log.batch_bytes if log.batch_ms else 0)
    boot_id = BootId(random_bytes(_BOOT_ID_BYTES))
    public_key = guest.log.open(log.public_key, boot_id)
    guest.loop.start(keep_pace(guest.log, log), "log pace")
    return report_data(boot_id, public_key)


async def bind_log(guest: Guest, configured: Configured, binding: bytes) -> None:
    """Bind the log's key by evidence that does not go through the KBS.

    Args:
        guest: whose log it is.
        configured: on what.
        binding: what `open_log` returned.

    Raises:
        CcinitError: the platform made no evidence.
    """
    evidence = await collect_evidence(guest, configured, binding)
    guest.log.bind(encode_log_evidence(configured.platform.tee, evidence))


async def attest(guest: Guest, configured: Configured, log_binding: bytes) -> Attested:
    """Hold the handshake, fetch everything that the manifest names, set the clock.

    Args:
        guest: who attests.
        configured: on what.
        log_binding: what `open_log` returned, for platforms that only now can bind the log.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: `kbs.…`, `net.…`, `envelope.…`.
    """
    with_identity = configured.config.owner is not None
    wanted = plan_resources(configured.manifest, with_identity=with_identity)
    counters = plan_counters(configured.manifest)
    tee = configured.platform.tee
    if is_judged_at_launch(tee):
        if counters:
            raise ConfigError("attest.launch_only", f"on {tee} nobody keeps a rollback counter")
        reply = await read_launch_secrets(guest, configured, wanted)
    else:
        reply = await request_resources(guest, configured, wanted, counters=counters)
    grants = _grants(reply)
    guest.teardown.push("secrets", undoing(lambda: wipe_grants(grants)))
    set_clock(reply.date, read_build_time())
    psk = grants[log_psk_uri(configured.manifest)].secret
    if evidence_needs_request(tee):
        await bind_log(guest, configured, log_binding)
    elif is_judged_at_launch(tee):
        voucher = vouch_for_log(psk.reveal(), log_binding)
        guest.log.bind(encode_log_evidence(tee, voucher))
    guest.log.mix(psk)
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
        released.uri: Grant(secret=Secret(released.data), create=released.create)
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
) -> KbsReply:
    """Hold the handshake in a child and return all of `wanted` and `counters`, in their order.

    Raises:
        ConfigError: `attest.launch_only`, the platform has no evidence for a KBS.
        ChildError: `child.protocol`, other resources came back.
        CcinitError: as `attest`.
    """
    _require_evidence(configured)
    async with AsyncExitStack() as stack:
        first = await _prepare_evidence(guest, configured, stack)

        async def answer(question: EvidenceQuestion) -> Answer:
            _keep_request(guest, configured, question.request)
            if first is None or first.is_used:
                evidence = await collect_evidence(guest, configured, question.report_data)
            else:
                request = _evidence_request(guest, configured, question.report_data)
                made = await first.run(
                    request,
                    EvidenceReply,
                    seconds=_EVIDENCE_SECONDS,
                    answers=_endorsements(guest, configured),
                )
                guest.service.figures.evidence_made += 1
                evidence = made.evidence
            return Answer(value=EvidenceAnswer(evidence=evidence))

        request = _kbs_request(
            configured,
            wanted,
            with_token=with_token,
            counters=counters,
            debug_grant=debug_grant,
        )
        reply = await _run_kbs_child(guest, configured, request, answer)
    brought = tuple(released.uri for released in reply.released)
    if brought != tuple(one.uri for one in wanted) or len(reply.counters) != len(counters):
        raise ChildError("child.protocol", "the KBS child brought other resources than asked for")
    return reply


async def _prepare_evidence(
    guest: Guest, configured: Configured, stack: AsyncExitStack
) -> PreparedChild | None:
    """Start the first evidence child: it loads while the other does, until the challenge is there.

    Returns None where the report data has to be known when the files are opened.
    """
    platform = configured.platform
    if platform.open_report is not None:
        return None
    with open_platform(platform, b"") as fds:
        prepare = guest.children.prepare(Role.EVIDENCE, fds=fds)
        return await stack.enter_async_context(prepare)


async def _run_kbs_child(
    guest: Guest,
    configured: Configured,
    request: KbsRequest,
    answer: Callable[[EvidenceQuestion], Awaitable[Answer]],
) -> KbsReply:
    by_relay = request.transport is KbsTransport.VSOCK
    connections: Answers = {ConnectionQuestion: _connect_to_relay} if by_relay else {}
    return await guest.children.run(
        Role.KBS,
        request,
        KbsReply,
        seconds=configured.config.limits.attest_seconds,
        answers={EvidenceQuestion: answer, **connections},
    )


def _kbs_request(
    configured: Configured,
    wanted: tuple[Wanted, ...],
    *,
    with_token: bool,
    counters: tuple[CounterStep, ...],
    debug_grant: ResourceUri | None,
) -> KbsRequest:
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
        seconds=config.limits.attest_seconds,
        with_token=with_token,
        counters=counters,
        debug_grant=debug_grant,
    )


async def _connect_to_relay(question: ConnectionQuestion) -> Answer:
    """A relay that is not there (yet) is for the child to try again; it ends no job."""
    try:
        connection = await connect_to_host(KBS_VSOCK_PORT, question.milliseconds / 1000)
    except KernelError as error:
        return Answer(value=ConnectionAnswer(errno=error.errno or errno.EIO))
    except DeadlineError:
        return Answer(value=ConnectionAnswer(errno=errno.ETIMEDOUT))
    return Answer(value=ConnectionAnswer(errno=0), fds=(connection.detach(),))


async def collect_evidence(guest: Guest, configured: Configured, report_data: bytes) -> bytes:
    """Return evidence over `report_data` as JSON text.

    Raises:
        ConfigError: `attest.launch_only`, the platform has none.
        CcinitError: it made none.
    """
    _require_evidence(configured)
    platform = configured.platform
    reply = await run_on_platform(
        guest,
        platform,
        Role.EVIDENCE,
        _evidence_request(guest, configured, report_data),
        EvidenceReply,
        report_data=report_data,
        seconds=_EVIDENCE_SECONDS,
        answers=_endorsements(guest, configured),
    )
    guest.service.figures.evidence_made += 1
    return reply.evidence


def _endorsements(guest: Guest, configured: Configured) -> Answers:
    """Answer a child that has a report and no network by one that has the network only."""
    tee = configured.platform.tee
    if not evidence_needs_network(tee):
        return {}

    async def endorse(question: EndorsementQuestion) -> Answer:
        request = EndorseRequest(tee=tee, hardware=question.hardware)
        run = guest.children.run
        answer = await run(Role.ENDORSE, request, EndorsementAnswer, seconds=_EVIDENCE_SECONDS)
        return Answer(value=answer)

    return {EndorsementQuestion: endorse}


def _require_evidence(configured: Configured) -> None:
    if is_judged_at_launch(configured.platform.tee):
        raise ConfigError(
            "attest.launch_only",
            "the owner judged this launch once; there is no evidence, and nothing to fetch with it",
        )


def _keep_request(guest: Guest, configured: Configured, request: bytes) -> None:
    """Keep a request from the child that spoke with the KBS; PID 1 does not read it.

    Raises:
        ChildError: `child.protocol`, one too many, or none.
    """
    needed = evidence_needs_request(configured.platform.tee)
    if bool(request) is not needed or len(request) > MAX_VERIFIERS_REQUEST_BYTES:
        raise ChildError("child.protocol", f"a request of {len(request)} bytes")
    if needed:
        guest.verifiers_request.text = request


def _evidence_request(guest: Guest, configured: Configured, report_data: bytes) -> EvidenceRequest:
    tee = configured.platform.tee
    place = initdata_binding(tee)
    stated = b""
    if place.binding is Binding.STATED:
        stated = document_digest(configured.document, place.algorithm)
    return EvidenceRequest(
        tee=tee,
        report_data=report_data,
        events=configured.measurement.records,
        initdata=stated,
        request=guest.verifiers_request.text if evidence_needs_request(tee) else b"",
    )


def plan_resources(manifest: PodManifest, *, with_identity: bool = False) -> tuple[Wanted, ...]:
    """List what this pod needs from the KBS; see `ccinit.formats.pod_resources`."""
    return want(manifest, name_resources(manifest, with_identity=with_identity))


def want(manifest: PodManifest, resources: Mapping[KbsUri, EnvelopeKind]) -> tuple[Wanted, ...]:
    """Say of each of `resources` what the manifest says of it."""
    policies = {image.policy for image in manifest.images}
    return tuple(
        Wanted(
            uri=uri,
            kind=kind,
            is_policy=uri in policies,
            sealed=tuple(
                secret.sealed
                for secret in manifest.secrets
                if secret.uri == uri and secret.sealed is not None
            ),
        )
        for uri, kind in resources.items()
    )


def plan_counters(manifest: PodManifest) -> tuple[CounterStep, ...]:
    """List the rollback counters that are read while the KBS is asked for the rest."""
    return tuple(CounterStep(uri=uri) for uri in name_counters(manifest))


def wipe_grants(grants: Mapping[KbsUri, Grant]) -> None:
    """Overwrite every secret."""
    for grant in grants.values():
        grant.secret.wipe()
