"""What one line of the audit log says, a JSON object.

Secrets never enter: no resource body, token, cookie or private key. A session has a label of its
own, because its cookie is a credential.

Strings that a peer chose are truncated and stay JSON strings; a terminal sees them only through
`guest_owner.table`. Names of what is registered are never truncated: an administrator could hide
one behind many others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum

from ccinit.errors import FormatError
from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.audit.claims import MAX_TEXT, encode_claims

_PEERS_TEXTS = frozenset(("resource", "request"))
_TOP_KEYS = ("time", "event", "session", "tee", "decision", "reason")
_DAMAGED = "move that line elsewhere, and the others can be read"


class Event(StrEnum):
    """What was asked for; a rotation is an event of the log itself."""

    AUTH = "auth"
    ATTEST = "attest"
    RESOURCE = "resource"
    ADMIN = "admin"
    ROTATION = "rotation"


class Decision(StrEnum):
    """What was answered."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    RELEASED = "released"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One line.

    Attributes:
        session: the session's label, "" if there is none.
        tee: the platform, as evidence or a request names it; "" if none was named.
        reason: dotted reason and detail of a refusal; "" otherwise.
        claims: every comparison of an appraisal.
        measured: registers and launch fields, only of accepted evidence: members of the line, as
            `"pcr": {"0": HEX, …}` of a TPM.
        reference: name and profile of the reference values, only of appraised guests.
        image: what the guest measures (`ReferenceSet.images`), only of accepted evidence.
        initdata: digest and registered name of the bound document, only of appraised guests.
        devices: names of further devices that vouched; only of appraised guests.
        basis: what the appraisal stands on (`References.basis_of`), only of accepted evidence.
        resource: URI, only for resources.
        rule: number and pattern of the policy's rule by which it was released.
        minted: what was made for this guest: kind and SHA-256 of a certificate, or a counter.
        request: what changed the KBS: method and path of a call, or the words of a command.
        registered: kinds and names of what such a call or command registered.
        administrator: name of the key that signed the token, only for administration.
        removed: how many records were removed so far to make room, only of a rotation.
        user: who ran a command on the KBS's machine, only for such commands.
        replaced: what a call or command replaced or removed.
    """

    event: Event
    decision: Decision
    session: str = ""
    tee: str = ""
    reason: str = ""
    claims: Sequence[Claim] = ()
    measured: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reference: str = ""
    image: str = ""
    profile: str = ""
    initdata: str = ""
    initdata_name: str = ""
    devices: str = ""
    basis: str = ""
    resource: str = ""
    rule: str = ""
    minted: str = ""
    request: str = ""
    registered: str = ""
    administrator: str = ""
    removed: str = ""
    user: str = ""
    replaced: str = ""

    @property
    def is_of_stranger(self) -> bool:
        """Whether anybody can cause it: a refusal of neither appraised guest nor administrator."""
        refused = self.decision in {Decision.REFUSED, Decision.DENIED}
        return refused and not self.reference and not self.administrator


_OPTIONAL_TEXTS = tuple(
    one.name for one in fields(AuditRecord) if one.default == "" and one.name not in _TOP_KEYS
)


def encode_record(record: AuditRecord, now: datetime) -> bytes:
    """Return the line of a record, with its end.

    Args:
        record: what is said.
        now: when, with a time zone.
    """
    value = _to_json(record, now)
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def parse_record(line: bytes, where: str) -> dict[str, object]:
    """Return what a line says.

    Args:
        line: with or without its end.
        where: names it in an error.

    Raises:
        FormatError: `audit.line`.
    """
    try:
        value = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise FormatError("audit.line", f"{where} is not JSON: {_DAMAGED}") from error
    if not isinstance(value, dict) or not all(key in value for key in _TOP_KEYS):
        raise FormatError("audit.line", f"{where} is not an audit record: {_DAMAGED}")
    return value


def _to_json(record: AuditRecord, now: datetime) -> dict[str, object]:
    value: dict[str, object] = {
        "time": now.isoformat(timespec="microseconds"),
        "event": record.event.value,
        "session": record.session,
        "tee": record.tee[:MAX_TEXT],
        "decision": record.decision.value,
        "reason": record.reason[:MAX_TEXT],
    }
    for key in _OPTIONAL_TEXTS:
        text = getattr(record, key)
        if text:
            value[key] = text[:MAX_TEXT] if key in _PEERS_TEXTS else text
    if record.claims:
        value["claims"] = encode_claims(record.claims)
    return {**record.measured, **value}
