"""The `tdx` evidence: a quote, and the log of what was measured into its registers.

The JSON is that of Trustee's `tdx` verifier: `{"quote": B64, "cc_eventlog": B64 | null}`, standard
base64. The quote's bytes are read by `ccinit.formats.evidence.tdx_quote`, the log's by
`ccinit.formats.tcg.event_log`; judging them is left to the verifier.
"""

from ccinit.errors import LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, encode_base64, members
from ccinit.formats.evidence.tdx_quote import MAX_QUOTE_BYTES
from ccinit.values import frozen

MAX_LOG_BYTES = 144 * 1024
"""Firmware reserves 64 KiB, the guest's own records take at most as many; the rest is room."""


@frozen
class TdxEvidence:
    """One quote.

    Attributes:
        quote: encoded, 1 byte to 16 KiB.
        event_log: firmware's records, then the guest's own; None if there are neither.
    """

    quote: bytes
    event_log: bytes | None

    def __post_init__(self) -> None:
        if not 1 <= len(self.quote) <= MAX_QUOTE_BYTES:
            raise LimitExceededError("tdx_evidence.quote", f"{len(self.quote)} bytes")
        if self.event_log is not None and len(self.event_log) > MAX_LOG_BYTES:
            raise LimitExceededError("tdx_evidence.cc_eventlog", f"{len(self.event_log)} bytes")

    def to_json_value(self) -> dict[str, JsonValue]:
        """Return the evidence as Trustee's `tdx` verifier reads it."""
        log = self.event_log
        return {
            "quote": encode_base64(self.quote),
            "cc_eventlog": None if log is None else encode_base64(log),
        }


def parse_tdx_evidence(value: JsonValue) -> TdxEvidence:
    """Read `tdx` evidence; missing and unknown members are refused.

    Raises:
        FormatError: `tdx_evidence.…`.
    """
    evidence = members(value, frozenset(("quote", "cc_eventlog")), "tdx_evidence")
    log = evidence["cc_eventlog"]
    return TdxEvidence(
        quote=decode_base64(evidence["quote"], "tdx_evidence.quote"),
        event_log=None if log is None else decode_base64(log, "tdx_evidence.cc_eventlog"),
    )
