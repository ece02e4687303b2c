"""The Attester of Arm CCA: the token of the realm, as the monitor makes it.

Where it comes from is the platform's (`ccinit.kernel.tsm`). It is passed on whole; what is read of
it is the challenge, to see that it is the token that was asked for, and what the host bound the
realm to. There is no register of the event log: Linux does not offer a realm's to programs.
"""

from collections.abc import Callable

from ccinit.errors import PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.cca_token import RealmClaims, encode_cca_evidence, parse_cca_token
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData

TokenSource = Callable[[bytes], bytes]
"""Gives the token over a challenge of 64 bytes."""


class CcaAttester:
    """Makes `cca` evidence."""

    def __init__(self, source: TokenSource) -> None:
        """Args: source: see there."""
        self._source = source

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a token over 64 bytes of `report_data`.

        Raises:
            PeerError: `attest.report`, the token is over something else; or the source's refusal.
            FormatError: `cca_token.…`.
        """
        token = self._source(report_data)
        _read(token, report_data)
        return encode_cca_evidence(token)

    def read_personalization(self) -> bytes:
        """Return the 64 bytes that the host gave the realm when it made it.

        Raises:
            PeerError, FormatError: as `collect_evidence`.
        """
        return _read(self._source(NO_REPORT_DATA), NO_REPORT_DATA).personalization


def _read(token: bytes, report_data: bytes) -> RealmClaims:
    claims = parse_cca_token(token)
    if claims.challenge != report_data:
        raise PeerError("attest.report", "the token is not over what was asked for")
    return claims
