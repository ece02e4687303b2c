"""Endorsements of an Azure VM's hardware report, from the VM's metadata service.

Azure Instance Metadata Service: `GET metadata/THIM/amd/certification` has the VCEK of this host's
processor, `POST acc/tdquote` turns a TD report into a quote. The service is the host's; the
verifier trusts what it returns only for the vendor's signature. An error here means only that the
guest cannot attest. While the service is being updated (410), throttles (429) or fails, it is to be
asked again after a second or more.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from ccinit.attest.ports import HttpTransport
from ccinit.attest.refusal import is_transient
from ccinit.errors import FormatError, PeerError
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64,
    decode_base64url,
    encode_base64url,
    parse_json,
)
from ccinit.formats.evidence.azure import MAX_ENDORSEMENT_BYTES
from ccinit.formats.evidence.hcl_report import TD_REPORT_BYTES
from ccinit.formats.evidence.tee import Tee
from ccinit.net.http import Headers, HttpLimits, HttpReply

HOST: Final = "169.254.169.254"

_HEADERS: Final[Headers] = (("metadata", "true"),)
_LIMITS: Final = HttpLimits(total_seconds=30.0, max_body_bytes=4 * MAX_ENDORSEMENT_BYTES)
_UPDATED: Final = 410
_MAX_ATTEMPTS, _FIRST_DELAY_SECONDS = 5, 1.0  # 15 seconds in all; the child that asks has a minute
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def fetch_endorsement(
    transport: HttpTransport,
    tee: Tee,
    hardware: bytes,
    host: str = HOST,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> bytes:
    """Return what the evidence of `tee`, one of Azure's two, needs beyond a hardware report.

    That is the certificate of this host's versioned chip endorsement key (SNP, DER), or a quote
    over a TD report of 1024 bytes (TDX).

    Raises:
        PeerError: `azure.metadata`, or as the transport's.
        FormatError: `azure.vcek`, `azure.td_quote`.
    """
    if tee is Tee.AZ_SNP_VTPM:
        url = f"http://{host}/metadata/THIM/amd/certification"
        reply = _request(transport, "GET", url, b"", sleep)
        return _decode_certificate(_read_member(reply, url, "vcekCert"))
    if len(hardware) != TD_REPORT_BYTES:
        raise RuntimeError(f"a TD report of {len(hardware)} bytes")
    url = f"http://{host}/acc/tdquote"
    body = encode_json({"report": encode_base64url(hardware)})
    quote = _read_member(_request(transport, "POST", url, body, sleep), url, "quote")
    bare = quote.rstrip("=") if isinstance(quote, str) else quote
    return decode_base64url(bare, "azure.td_quote")


def _decode_certificate(pem: JsonValue) -> bytes:
    if not isinstance(pem, str):
        raise FormatError("azure.vcek", "the certificate is not text")
    begin, end = pem.find(_PEM_BEGIN), pem.find(_PEM_END)
    if begin < 0 or end < begin:
        raise FormatError("azure.vcek", "not a PEM certificate")
    return decode_base64("".join(pem[begin + len(_PEM_BEGIN) : end].split()), "azure.vcek")


def _read_member(reply: HttpReply, url: str, name: str) -> JsonValue:
    """Return one member of the reply; the service may add others."""
    if reply.status != 200:
        raise PeerError("azure.metadata", f"{url}: status {reply.status}")
    value = parse_json(reply.body, "azure.metadata", _LIMITS.max_body_bytes)
    if not isinstance(value, Mapping) or name not in value:
        raise PeerError("azure.metadata", f"{url}: the reply has no {name!r}")
    member: JsonValue = value[name]
    return member


def _request(
    transport: HttpTransport,
    method: str,
    url: str,
    body: bytes,
    sleep: Callable[[float], None],
) -> HttpReply:
    """Return the first reply that is not worth a retry, or else the last."""
    headers = (*_HEADERS, ("content-type", "application/json")) if body else _HEADERS
    delay = _FIRST_DELAY_SECONDS
    for _retry in range(_MAX_ATTEMPTS - 1):
        reply = transport.request(method, url, headers=headers, body=body, limits=_LIMITS)
        if reply.status != _UPDATED and not is_transient(reply.status):
            return reply
        sleep(delay)
        delay *= 2
    return transport.request(method, url, headers=headers, body=body, limits=_LIMITS)
