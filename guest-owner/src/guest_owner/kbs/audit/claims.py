"""Claims of an appraisal as the audit log holds them."""

from collections.abc import Mapping, Sequence

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from guest_owner.kbs.appraisal import Claim

MAX_TEXT = 2048


def encode_claims(claims: Sequence[Claim]) -> list[dict[str, object]]:
    """Return claims as the log holds them; texts are cut at `MAX_TEXT` characters."""
    return [
        {
            "name": claim.name,
            "expected": claim.expected[:MAX_TEXT],
            "got": claim.got[:MAX_TEXT],
            "holds": claim.holds,
        }
        for claim in claims
    ]


def decode_claims(record: Mapping[str, object]) -> tuple[Claim, ...]:
    """Return the claims of a record that `read_audit` gave; none for one without an appraisal.

    Raises:
        FormatError: below `audit.claims`.
    """
    written = record.get("claims", [])
    if not isinstance(written, list):
        raise FormatError("audit.claims", "not a list of claims")
    return tuple(map(_decode_claim, written))


def _decode_claim(value: object) -> Claim:
    with Fields(value, "audit.claims") as fields:
        return Claim(
            name=_any_text(fields, "name"),
            expected=_any_text(fields, "expected"),
            got=_any_text(fields, "got"),
            holds=fields.boolean("holds"),
        )


def _any_text(fields: Fields, key: str) -> str:
    """Return a text as logged; one that a peer chose may hold NUL or half a surrogate pair."""
    text = fields.value(key)
    if not isinstance(text, str):
        raise FormatError(f"audit.claims.{key}", "expected a string")
    return text
