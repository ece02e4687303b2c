"""Role `kbs`: attest to the owner's KBS and bring back what it releases.

The session's private key lives and dies in this process. It has no TPM: for evidence it asks PID 1.
Nor may it make vsock connections: if the KBS is reached through the host's relay, each connection
comes from PID 1 as a descriptor, to that one port.
"""

import errno
import json
import os
import socket
from collections.abc import Sequence

from ccinit.agent.child import JobChannel
from ccinit.agent.messages import (
    ConnectionAnswer,
    ConnectionQuestion,
    EvidenceAnswer,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Released,
    Wanted,
)
from ccinit.attest.client import KbsClient
from ccinit.attest.patience import AttestLimits
from ccinit.errors import LimitExceededError, PeerError
from ccinit.formats.envelope import EnvelopeKind
from ccinit.formats.guest_config import EnvelopePolicy, KbsTransport
from ccinit.formats.image_policy import parse_image_policy
from ccinit.formats.resource_uri import ResourceUri
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tee import ReportData
from ccinit.net.http import HttpClient
from ccinit.net.stream import Dial, dial_tcp
from ccinit.net.tls import pinned_context

MAX_POLICY_KEYS = 32


def run(request: KbsRequest, channel: JobChannel) -> KbsReply:
    """Do the job."""

    def evidence_for(report_data: ReportData) -> JsonValue:
        answer = channel.ask(EvidenceQuestion(report_data=report_data), EvidenceAnswer)
        value: JsonValue = json.loads(answer.evidence)
        return value

    context = pinned_context(request.ca_pem, check_time=False)
    dial = dial_tcp if request.transport is KbsTransport.TCP else _dial_relay(channel)
    with HttpClient(context, dial=dial) as transport:
        client = KbsClient(
            url=request.url,
            transport=transport,
            tee=request.tee,
            evidence_for=evidence_for,
            init_data=request.document,
            key_algorithm=request.tee_key_algorithm,
            limits=AttestLimits(total_seconds=request.seconds),
        )
        result = client.attest()
        if result.date is None:
            raise PeerError("kbs.date", "the reply has no Date, and the guest has no other clock")
        released = tuple(_release(client, wanted, request.envelope) for wanted in request.wanted)
        policy_keys = tuple(
            _release(client, Wanted(uri=uri, kind=EnvelopeKind.FILE), request.envelope)
            for uri in resources_of_policies(request.wanted, released)
        )
    return KbsReply(released=released, policy_keys=policy_keys, date=result.date)


def resources_of_policies(
    wanted: Sequence[Wanted], released: Sequence[Released]
) -> Sequence[ResourceUri]:
    """List the keys that image policies name instead of containing them, each once."""
    found: dict[ResourceUri, None] = {}
    for one, resource in zip(wanted, released, strict=True):
        if one.is_policy:
            found |= dict.fromkeys(parse_image_policy(resource.data).resources())
    if len(found) > MAX_POLICY_KEYS:
        raise LimitExceededError("policy.keys", f"more than {MAX_POLICY_KEYS} resources")
    return tuple(found)


def _dial_relay(channel: JobChannel) -> Dial:
    def dial(_host: str, _port: int, timeout_seconds: float) -> socket.socket:
        question = ConnectionQuestion(milliseconds=max(1, int(timeout_seconds * 1000)))
        answer, fds = channel.ask_for_fds(question, ConnectionAnswer)
        if answer.errno or len(fds) != 1:
            number = answer.errno or errno.EPROTO
            raise OSError(number, os.strerror(number))
        return socket.socket(fileno=fds[0])

    return dial


def _release(client: KbsClient, wanted: Wanted, policy: EnvelopePolicy) -> Released:
    if policy is EnvelopePolicy.REQUIRED:
        envelope = client.get_envelope(wanted.uri, wanted.kind).envelope
        return Released(uri=wanted.uri, data=envelope.data, create=envelope.create)
    with client.get_resource(wanted.uri).body as body:
        return Released(uri=wanted.uri, data=body.reveal(), create=False)
