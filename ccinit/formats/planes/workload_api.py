"""The workload API: what a container may ask of its guest, at CoCo's paths on 127.0.0.1:8006.

Paths, parameters and replies are those of CoCo's `api-server-rest`; where the meaning differs on
purpose (docs/workload-api.md), less is allowed. A request becomes one of five calls, which the
child that read it sends to PID 1 as a question.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import decode_base64url, members, parse_json, text_member
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.planes.http_request import HttpRequest, HttpRequestError
from ccinit.values import frozen

REPORT_DOMAIN: Final = b"ccinit/workload/v1\0"
EVENT_DOMAIN_PREFIX: Final = "workload"
_RESOURCE: Final = "/cdh/resource/"
_MAX_EVENT_BYTES: Final = 4096
_EVENT_MEMBERS: Final = frozenset(("domain", "operation", "content"))


@frozen
class ResourceCall:
    """GET /cdh/resource/{repository}/{type}/{tag}."""

    name: ClassVar[str] = "resource"

    uri: ResourceUri


@frozen
class TokenCall:
    """GET /aa/token?token_type=kbs."""

    name: ClassVar[str] = "token"


@frozen
class EvidenceCall:
    """GET /aa/evidence?runtime_data=…[&encoding=base64]; the data decoded."""

    name: ClassVar[str] = "evidence"

    runtime_data: bytes


@frozen
class EventCall:
    """POST /aa/aael, the three texts as the container wrote them."""

    name: ClassVar[str] = "event"

    domain: str
    operation: str
    content: str


@frozen
class InfoCall:
    """GET /info."""

    name: ClassVar[str] = "info"


WorkloadCall = ResourceCall | TokenCall | EvidenceCall | EventCall | InfoCall
"""The log calls each by its `name`."""


def report_data(container: str, runtime_data: bytes) -> bytes:
    """Return a workload's report data: 64 bytes that no other use of evidence can have.

    It is never the caller's own bytes, or a container could have the digest of its own key attested
    and complete the guest's handshake with the KBS. A container's name has no zero byte, so the
    parts cannot be confused.
    """
    return hashlib.sha512(REPORT_DOMAIN + container.encode("ascii") + b"\0" + runtime_data).digest()


def parse_call(request: HttpRequest) -> WorkloadCall:
    """Return the call that a request makes.

    Raises:
        HttpRequestError: `workload.…`.
    """
    path = _RESOURCE if request.path.startswith(_RESOURCE) else request.path
    if path not in _CALLS:
        raise HttpRequestError(404, "workload.path", "no such path")
    method, names, read = _CALLS[path]
    if request.method != method:
        raise HttpRequestError(405, "workload.method", f"expected {method}")
    if not request.parameters.keys() <= names:
        raise HttpRequestError(400, "workload.parameters", "an unknown parameter")
    try:
        return read(request)
    except HttpRequestError:
        raise
    except FormatError as error:
        raise HttpRequestError(400, error.reason, error.detail) from error


def _read_resource(request: HttpRequest) -> ResourceCall:
    name = request.path.removeprefix(_RESOURCE)
    return ResourceCall(uri=parse_resource_uri(f"kbs:///{name}", "workload.resource"))


def _read_token(request: HttpRequest) -> TokenCall:
    if request.parameters.get("token_type") != "kbs":
        raise HttpRequestError(400, "workload.token_type", "expected token_type=kbs")
    return TokenCall()


def _read_evidence(request: HttpRequest) -> EvidenceCall:
    text, encoding = request.parameters.get("runtime_data"), request.parameters.get("encoding")
    if text is None:
        raise HttpRequestError(400, "workload.runtime_data", "missing")
    if encoding is None:
        return EvidenceCall(runtime_data=text.encode())
    if encoding != "base64":
        raise HttpRequestError(400, "workload.encoding", "expected base64")
    return EvidenceCall(runtime_data=decode_base64url(text, "workload.runtime_data"))


def _read_event(request: HttpRequest) -> EventCall:
    value = parse_json(request.body, "workload.event", _MAX_EVENT_BYTES)
    found = members(value, _EVENT_MEMBERS, "workload.event")
    domain, operation, content = (
        text_member(found, name, "workload.event") for name in ("domain", "operation", "content")
    )
    return EventCall(domain=domain, operation=operation, content=content)


def _read_info(_request: HttpRequest) -> InfoCall:
    return InfoCall()


_CALLS: Mapping[str, tuple[str, frozenset[str], Callable[[HttpRequest], WorkloadCall]]] = {
    _RESOURCE: ("GET", frozenset(), _read_resource),
    "/aa/token": ("GET", frozenset(("token_type",)), _read_token),
    "/aa/evidence": ("GET", frozenset(("runtime_data", "encoding")), _read_evidence),
    "/aa/aael": ("POST", frozenset(), _read_event),
    "/info": ("GET", frozenset(), _read_info),
}
