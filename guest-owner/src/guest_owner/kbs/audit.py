"""The audit log: who asked for what, what was compared, what was decided. One JSON object a line.

Each record is on the disk before its reply leaves. Secrets never enter: no resource body, token,
cookie or private key; a session is named by a label of its own, because its cookie is a
credential. Strings that a peer chose are cut and stay JSON strings; a terminal sees them only
through `guest_owner.table`.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.files import PRIVATE_MODE

MAX_TEXT = 2048
_TOP_KEYS = ("time", "event", "session", "tee", "decision", "reason")


class Event(StrEnum):
    """What was asked."""

    AUTH = "auth"
    ATTEST = "attest"
    RESOURCE = "resource"


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
        reason: dotted reason and detail of a refusal; "" otherwise.
        claims: every comparison of an appraisal.
        measured: registers and launch fields, only of accepted evidence: members of the line, as
            `"pcr": {"0": HEX, …}` of a TPM.
        reference: name and profile of the reference values, only of appraised guests.
        initdata: digest and registered name of the bound document, only of appraised guests.
        resource: URI, only for resources.
    """

    event: Event
    session: str
    tee: str
    decision: Decision
    reason: str = ""
    claims: Sequence[Claim] = ()
    measured: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reference: str = ""
    profile: str = ""
    initdata: str = ""
    initdata_name: str = ""
    resource: str = ""


class AuditLog:
    """An append-only file; each `append` returns after the record is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: AuditRecord) -> None:
        """Write one record with the current time.

        Raises:
            ConfigError: `audit.write`; the caller must then release nothing.
        """
        line = json.dumps(_to_json(record, datetime.now(UTC)), separators=(",", ":")) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, PRIVATE_MODE)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                file.write(line.encode("ascii"))
                os.fsync(file.fileno())
        except OSError as error:
            detail = f"cannot write {self._path}: {error.strerror}"
            raise ConfigError("audit.write", detail) from error


def read_audit(path: Path) -> Iterator[dict[str, object]]:
    """Yield the records of a log, oldest first.

    Raises:
        ConfigError: `audit.read`.
        FormatError: `audit.line`.
    """
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                yield _parse_line(line, number)
    except OSError as error:
        raise ConfigError("audit.read", f"cannot read {path}: {error.strerror}") from error


def _parse_line(line: str, number: int) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise FormatError("audit.line", f"line {number} is not JSON") from error
    if not isinstance(value, dict) or not all(key in value for key in _TOP_KEYS):
        raise FormatError("audit.line", f"line {number} is not an audit record")
    return value


def _to_json(record: AuditRecord, now: datetime) -> dict[str, object]:
    value: dict[str, object] = {
        "time": now.isoformat(timespec="milliseconds"),
        "event": record.event.value,
        "session": record.session,
        "tee": record.tee[:MAX_TEXT],
        "decision": record.decision.value,
        "reason": record.reason[:MAX_TEXT],
    }
    for key in ("reference", "profile", "initdata", "initdata_name", "resource"):
        text = getattr(record, key)
        if text:
            value[key] = text[:MAX_TEXT]
    if record.claims:
        value["claims"] = [
            {
                "name": claim.name,
                "expected": claim.expected[:MAX_TEXT],
                "got": claim.got[:MAX_TEXT],
                "holds": claim.holds,
            }
            for claim in record.claims
        ]
    return {**record.measured, **value}
