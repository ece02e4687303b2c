"""The audit log: who asked for what, what was compared, what was decided. One JSON object a line.

Each record is on the disk before its reply leaves. Secrets never enter: no resource body, token,
cookie or private key; a session is named by a label of its own, because its cookie is a
credential. Strings that a peer chose are cut and stay JSON strings; a terminal sees them only
through `guest_owner.table`. Where a file ends and the next begins is `guest_owner.kbs.audit_files`.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.fields import Fields
from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.audit_files import (
    continuation,
    older_files,
    removal,
    set_aside,
)
from guest_owner.kbs.files import PRIVATE_MODE
from guest_owner.kbs.limits import DEFAULT_LIMITS, Limits

AUDIT_NAME = "audit.jsonl"
MAX_TEXT = 2048
_OPTIONAL_TEXTS = (
    "reference",
    "image",
    "profile",
    "initdata",
    "initdata_name",
    "devices",
    "resource",
    "minted",
    "request",
    "registered",
    "administrator",
)
_TOP_KEYS = ("time", "event", "session", "tee", "decision", "reason")


class Event(StrEnum):
    """What was asked; a rotation is the log's own."""

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
        reason: dotted reason and detail of a refusal; "" otherwise.
        claims: every comparison of an appraisal.
        measured: registers and launch fields, only of accepted evidence: members of the line, as
            `"pcr": {"0": HEX, …}` of a TPM.
        reference: name and profile of the reference values, only of appraised guests.
        image: what the guest measures (`ReferenceSet.images`), only of accepted evidence.
        initdata: digest and registered name of the bound document, only of appraised guests.
        devices: names of what else vouched, only of appraised guests.
        resource: URI, only for resources.
        minted: what was made for this guest: kind and SHA-256 of a certificate, or a counter.
        request: method and path, only for administration.
        registered: kinds and names of what an administrator registered.
        administrator: name of the key that signed the token, only for administration.
    """

    event: Event
    session: str
    tee: str
    decision: Decision
    reason: str = ""
    claims: Sequence[Claim] = ()
    measured: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reference: str = ""
    image: str = ""
    profile: str = ""
    initdata: str = ""
    initdata_name: str = ""
    devices: str = ""
    resource: str = ""
    minted: str = ""
    request: str = ""
    registered: str = ""
    administrator: str = ""


class AuditLog:
    """An append-only file; each `append` returns after the record is on the disk."""

    def __init__(
        self,
        path: Path,
        limits: Limits = DEFAULT_LIMITS,
        observe: Callable[[AuditRecord], None] = lambda _record: None,
    ) -> None:
        """Args: observe: is told every record that was written."""
        self._path = path
        self._limits = limits
        self._observe = observe

    def append(self, record: AuditRecord) -> None:
        """Write one record with the current time.

        Raises:
            ConfigError: `audit.write`; the caller must then release nothing.
        """
        line = _to_line(record)
        try:
            size = self._path.stat().st_size if self._path.exists() else 0
            if size and size + len(line) > self._limits.audit_file_bytes:
                set_aside(self._path)
                size = 0
            if not size:
                self._begin()
            self._write(line)
        except OSError as error:
            detail = f"cannot write {self._path}: {error.strerror}"
            raise ConfigError("audit.write", detail) from error
        self._observe(record)

    def _begin(self) -> None:
        """Say in a new file what it continues, and what is removed to make room; then remove it."""
        older = older_files(self._path)
        if not older:
            return
        self._write_rotation(continuation(older[-1]))
        for path in older[: -self._limits.audit_older_files]:
            self._write_rotation(removal(path))
            path.unlink()

    def _write_rotation(self, reason: str) -> None:
        rotation = AuditRecord(
            event=Event.ROTATION, session="", tee="", decision=Decision.ACCEPTED, reason=reason
        )
        self._write(_to_line(rotation))
        self._observe(rotation)

    def _write(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, PRIVATE_MODE)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            try:
                rest = memoryview(line)
                while rest:  # a disk that is nearly full takes a part, and says so the next time
                    rest = rest[file.write(rest) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # else the next record would continue this line
                raise


def read_audit(path: Path) -> Iterator[dict[str, object]]:
    """Yield the records of a log and of its older files, oldest first.

    Args:
        path: of the newest file.

    Raises:
        ConfigError: `audit.read`.
        FormatError: `audit.line`; `audit.chain`, a file is not the one that the next continues.
    """
    previous: Path | None = None
    for part in (*older_files(path), path):
        try:
            expected = "" if previous is None else continuation(previous)
            with part.open("rb") as file:
                for number, line in enumerate(file, 1):
                    record = _parse_line(line, f"{part.name}, line {number}")
                    if number == 1 and previous is not None and record["reason"] != expected:
                        raise FormatError("audit.chain", f"{part.name} does not say: {expected}")
                    yield record
        except OSError as error:
            raise ConfigError("audit.read", f"cannot read {part}: {error.strerror}") from error
        previous = part


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
            name=fields.text("name"),
            expected=fields.text("expected", max_bytes=4 * MAX_TEXT),
            got=fields.text("got", max_bytes=4 * MAX_TEXT),
            holds=fields.boolean("holds"),
        )


def _parse_line(line: bytes, where: str) -> dict[str, object]:
    try:
        value = json.loads(line.decode("ascii"))
    except ValueError as error:
        raise FormatError("audit.line", f"{where} is not JSON") from error
    if not isinstance(value, dict) or not all(key in value for key in _TOP_KEYS):
        raise FormatError("audit.line", f"{where} is not an audit record")
    return value


def _to_line(record: AuditRecord) -> bytes:
    value = _to_json(record, datetime.now(UTC))
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _to_json(record: AuditRecord, now: datetime) -> dict[str, object]:
    value: dict[str, object] = {
        "time": now.isoformat(timespec="milliseconds"),
        "event": record.event.value,
        "session": record.session,
        "tee": record.tee[:MAX_TEXT],
        "decision": record.decision.value,
        "reason": record.reason[:MAX_TEXT],
    }
    for key in _OPTIONAL_TEXTS:
        text = getattr(record, key)
        if text:
            value[key] = text[:MAX_TEXT]
    if record.claims:
        value["claims"] = encode_claims(record.claims)
    return {**record.measured, **value}
