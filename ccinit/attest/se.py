"""The Attester of IBM Secure Execution: the ultravisor's measurement, in answer to a request.

There is no evidence without a request: the verifier that made it has the measurement's key. The
user data are the report data and the digest of the initdata document. Neither a launch field nor a
register holds that digest: the measured image states it, and the ultravisor measures this statement
together with the image. It is stated anew each time, so a compromised guest could state another
one; platforms with registers are stronger in this.
"""

from typing import Protocol

from ccinit.errors import ConfigError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.se import (
    MEASUREMENT_BYTES,
    SeEvidence,
    encode_user_data,
    parse_se_request,
)
from ccinit.formats.evidence.tee import ReportData
from ccinit.kernel.uv import UvMeasurement


class Ultravisor(Protocol):
    """What is needed of `ccinit.kernel.uv.retrieve_measurement`, given its device."""

    def __call__(
        self, request: bytes, user_data: bytes, *, measurement_bytes: int, additional_bytes: int
    ) -> UvMeasurement:
        """Measure this guest."""


class SeAttester:
    """Makes `se` evidence."""

    def __init__(self, ultravisor: Ultravisor, *, request: bytes, initdata_digest: bytes) -> None:
        """Args: request: the verifier's, JSON; initdata_digest: SHA-384 of the document."""
        self._ultravisor = ultravisor
        self._request = request
        self._initdata_digest = initdata_digest

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a measurement over 64 bytes of `report_data` and the document's digest.

        Raises:
            ConfigError: `attest.request`, there is none to answer.
            FormatError: `se_request.…`, `se_user_data.…`.
            PeerError: the ultravisor's refusal.
        """
        if not self._request:
            raise ConfigError("attest.request", "no verifier has sent a request yet")
        request = parse_se_request(self._request)
        user_data = encode_user_data(report_data, self._initdata_digest)
        answer = self._ultravisor(
            request.blob,
            user_data,
            measurement_bytes=MEASUREMENT_BYTES,
            additional_bytes=request.additional_bytes,
        )
        evidence = SeEvidence(
            measurement=answer.measurement,
            additional=answer.additional,
            user_data=user_data,
            config_uid=answer.config_uid,
            sealed_key=request.sealed_key,
            sealed_nonce=request.sealed_nonce,
            header_tags=request.header_tags,
        )
        return evidence.to_json_value()
