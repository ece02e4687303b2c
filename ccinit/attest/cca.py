"""The Attester of Arm CCA: the realm's token, as the realm management monitor makes it.

The token comes through `ccinit.kernel.tsm` and is passed on whole. Only two fields are read here:
the challenge, to check that this is the requested token, and what the host bound the realm to.
There is no register for the event log: Linux does not expose a realm's measurement registers to
programs.
"""

from collections.abc import Callable

from ccinit.errors import PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.cca_token import RealmClaims, encode_cca_evidence, parse_cca_token
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData

TokenSource = Callable[[bytes], bytes]
"""Returns the token over a challenge of 64 bytes."""


class CcaAttester:
    """Makes `cca` evidence."""

    def __init__(self, source: TokenSource) -> None:
        """Args: source: returns the token over a challenge."""
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
        """Return the personalization value: 64 bytes that the host set when it created the realm.

        Raises:
            PeerError, FormatError: as `collect_evidence`.
        """
        return _read(self._source(NO_REPORT_DATA), NO_REPORT_DATA).personalization


def _read(token: bytes, report_data: bytes) -> RealmClaims:
    claims = parse_cca_token(token)
    if claims.challenge != report_data:
        raise PeerError("attest.report", "the token is not over what was asked for")
    return claims
