"""What attestation needs from outside: a maker of evidence, and a way to send requests."""

from collections.abc import Callable
from typing import Protocol

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData
from ccinit.net.http import Headers, HttpLimits, HttpReply

EvidenceFor = Callable[[ReportData, bytes], JsonValue]
"""Makes the evidence that carries the given report data, in answer to a verifier's request.

The request is empty except on platforms that need one: see `ccinit.formats.evidence.tee`.
"""


class HttpTransport(Protocol):
    """What is needed of `ccinit.net.http.HttpClient`."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        limits: HttpLimits,
    ) -> HttpReply:
        """Send one request and return its reply."""
