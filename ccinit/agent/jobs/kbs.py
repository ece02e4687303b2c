"""Role `kbs`: attest to the owner's KBS and bring back what it releases.

The session's private key never leaves this process. The child has no TPM and asks PID 1 for
evidence. Nor may it make vsock connections: if the KBS is reached through the host's relay, PID 1
passes each connection as a descriptor, to that one port only.

Certificates' dates are checked once the clock is no earlier than the KBS's. This lets a guest go on
that its host had paused for days: the KBS's certificate may be newer than the guest's clock, and a
renewed identity certainly is. In that case the KBS is first asked for the time and nothing else,
under the rules that ATTEST has for everything: chain, name, key and usage of its certificate, but
not dates. From then on dates count.
"""

import errno
import json
import os
import socket
from contextlib import ExitStack

from ccinit.agent.jobs.messages.kbs import (
    ClockAnswer,
    ClockQuestion,
    ConnectionAnswer,
    ConnectionQuestion,
    CounterStep,
    EvidenceAnswer,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Released,
    Wanted,
)
from ccinit.agent.jobs.released import release_policy_keys, verify_sealed_names
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.client import KbsClient, ask_time
from ccinit.attest.composite import make_device_attesters
from ccinit.attest.passport import PassportSource
from ccinit.attest.patience import AttestLimits
from ccinit.attest.ports import EvidenceFor
from ccinit.errors import ConfigError, PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.initdata.guest_config import EnvelopePolicy, KbsTransport
from ccinit.formats.kbs.debug_grant import DebugGrant, verify_debug_grant
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.release import check_released_size
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.kbs.rollback_counter import encode_counter_advance, verify_counter_reply
from ccinit.formats.kbs.tls_identity import parse_tls_identity
from ccinit.kernel.clock import boottime
from ccinit.net.http import HttpClient
from ccinit.net.stream import Dial, dial_tcp
from ccinit.net.tls import pinned_context
from ccinit.net.tls_identity import verify_identity
from ccinit.secret import Secret
from ccinit.values import replace


def run(request: KbsRequest, channel: JobChannel) -> KbsReply:
    """Attest, and fetch what the request names.

    Raises:
        PeerError: `kbs.date`, no reply carries the time.
        CcinitError: what `KbsClient` raises; a released resource, or the size of all of them,
            was refused.
    """
    ends_at = boottime() + request.seconds
    try:
        return _talk(request, channel)
    except PeerError as error:
        if error.reason != "net.certificate_early" or not request.has_clock:
            raise
    with _transport(request, channel, check_time=False) as transport:
        _tell_time(ask_time(request.url, transport), channel)
    left_seconds = max(1, int(ends_at - boottime()))
    return _talk(replace(request, seconds=left_seconds), channel)


def _talk(request: KbsRequest, channel: JobChannel) -> KbsReply:
    with ExitStack() as stack:
        return _collect(_make_client(request, channel, stack), request, channel)


def _tell_time(seconds: int, channel: JobChannel) -> None:
    """Have PID 1 set the clock forward to the KBS's time."""
    channel.ask(ClockQuestion(seconds=seconds), ClockAnswer)


def _make_client(request: KbsRequest, channel: JobChannel, stack: ExitStack) -> KbsClient:
    def evidence_for(report_data: ReportData, verifiers_request: bytes) -> JsonValue:
        question = EvidenceQuestion(report_data=report_data, verifiers_request=verifiers_request)
        answer = channel.ask(question, EvidenceAnswer)
        value: JsonValue = json.loads(answer.evidence)
        return value

    return KbsClient(
        url=request.url,
        transport=stack.enter_context(_transport(request, channel, check_time=request.has_clock)),
        tee=request.tee,
        evidence_for=evidence_for,
        init_data=request.document,
        parameters=json.loads(request.parameters or b"{}"),
        devices=make_device_attesters(request.devices),
        passport=_passport(request, evidence_for, stack),
        key_algorithm=request.tee_key_algorithm,
        limits=AttestLimits(total_seconds=request.seconds),
    )


def _collect(client: KbsClient, request: KbsRequest, channel: JobChannel) -> KbsReply:
    """Fetch everything in one session; the time told with a debug grant takes precedence."""
    result = client.attest()
    released, told = _release_all(client, request, channel)
    verify_sealed_names(request.wanted, released)
    policy_keys = release_policy_keys(
        request.wanted, released, lambda key: _release(client, key, request.envelope)[0]
    )
    check_released_size(len(one.data) for one in (*released, *policy_keys))
    counters = tuple(step_counter(client, step) for step in request.counters)
    date = told if result.date is None else result.date
    grant = None
    if request.debug_grant is not None:
        grant, date = _fetch_debug_grant(client, request.debug_grant)
    if date is None:
        raise PeerError("kbs.date", "the reply has no Date, and the guest has no other clock")
    return KbsReply(
        released=released,
        policy_keys=policy_keys,
        date=date,
        token=result.token if request.with_token else "",
        counters=counters,
        debug_grant=grant,
    )


def _fetch_debug_grant(client: KbsClient, uri: ResourceUri) -> tuple[DebugGrant, int]:
    """Fetch the grant for the key of this session, and the time that the KBS told with it.

    The grant needs an envelope whatever `kbs.envelope` says: without one, any resource could pass
    for a grant.
    """
    resource = client.get_envelope(uri, EnvelopeKind.DEBUG_GRANT)
    if resource.date is None:
        raise PeerError("kbs.date", "the reply has no Date, so nothing says when the grant ends")
    grant = verify_debug_grant(resource.envelope.data, resource.tee_pubkey, resource.date)
    return grant, resource.date


def _release_all(
    client: KbsClient, request: KbsRequest, channel: JobChannel
) -> tuple[tuple[Released, ...], int | None]:
    """Fetch all that is wanted; also return the first date that a reply told."""
    released, date = [], None
    for one in request.wanted:
        resource, told = _release(client, one, request.envelope)
        if one.identity is not None and told is not None and request.has_clock:
            _tell_time(told, channel)
        released.append(_verify_identity(resource, one, request))
        date = told if date is None else date
    return tuple(released), date


def _verify_identity(released: Released, wanted: Wanted, request: KbsRequest) -> Released:
    """Refuse an identity that none of the owner's clients would accept."""
    if wanted.identity is None:
        return released
    with Secret(released.data) as identity:
        found = verify_identity(identity, wanted.identity, check_time=request.has_clock)
    shown = parse_tls_identity(released.data).certificate_der
    return replace(released, identity=found, certificate_der=shown)


def step_counter(client: KbsClient, step: CounterStep) -> int:
    """Return the value of a rollback counter, after advancing it if the step asks for that.

    Raises:
        CcinitError: as `KbsClient.get_resource`; `counter.…`, the reply is about something else.
    """
    post = b"" if step.advance is None else encode_counter_advance(step.advance)
    with client.get_resource(step.uri, post=post).body as body:
        return verify_counter_reply(body.reveal(), step.uri)


def _transport(request: KbsRequest, channel: JobChannel, *, check_time: bool) -> HttpClient:
    dial = dial_tcp if request.transport is KbsTransport.TCP else _dial_relay(channel)
    return HttpClient(pinned_context(request.ca_pem, check_time=check_time), dial=dial)


def _passport(
    request: KbsRequest, evidence_for: EvidenceFor, stack: ExitStack
) -> PassportSource | None:
    config = request.passport
    if config is None:
        return None
    context = pinned_context(config.ca_pem, check_time=request.has_clock)
    return PassportSource(
        config,
        transport=stack.enter_context(HttpClient(context)),
        tee=request.tee,
        evidence_for=evidence_for,
    )


def _dial_relay(channel: JobChannel) -> Dial:
    def dial(_host: str, _port: int, timeout_seconds: float) -> socket.socket:
        question = ConnectionQuestion(milliseconds=max(1, int(timeout_seconds * 1000)))
        answer, fds = channel.ask_for_fds(question, ConnectionAnswer)
        if answer.errno or len(fds) != 1:
            number = answer.errno or errno.EPROTO
            raise OSError(number, os.strerror(number))
        return socket.socket(fileno=fds[0])

    return dial


def _release(
    client: KbsClient, wanted: Wanted, policy: EnvelopePolicy
) -> tuple[Released, int | None]:
    """Fetch one resource; also return the time that the KBS told with it."""
    if policy is EnvelopePolicy.REQUIRED:
        if not isinstance(wanted.uri, ResourceUri):
            raise ConfigError("kbs.envelope", f"{wanted.uri}: what a plugin makes has no envelope")
        resource = client.get_envelope(wanted.uri, wanted.kind)
        envelope = resource.envelope
        released = Released(uri=wanted.uri, data=envelope.data, create=envelope.create)
        return released, resource.date
    plain = client.get_resource(wanted.uri)
    with plain.body as body:
        return Released(uri=wanted.uri, data=body.reveal(), create=False), plain.date
