"""A sealed log as its owner reads it, whole and in memory."""

import io
from dataclasses import dataclass, fields

from guest_owner.sealed_log.entries import LogEntry
from guest_owner.sealed_log.key import LogKey
from guest_owner.sealed_log.unseal import EvidenceVerifier, Unsealing, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed(Verdict):
    """A verdict, and everything that was read before the first fatal finding."""

    entries: tuple[LogEntry, ...]


def unseal(
    stream: bytes,
    key: LogKey,
    *,
    psk: bytes | None = None,
    verify_evidence: EvidenceVerifier | None = None,
) -> Unsealed:
    """Read a whole `stream` as far as it can be believed; as `Unsealing`."""
    reading = Unsealing(io.BytesIO(stream), key, psk=psk, verify_evidence=verify_evidence)
    entries = tuple(reading.entries())
    verdict = reading.verdict()
    known = {field.name: getattr(verdict, field.name) for field in fields(verdict)}
    return Unsealed(entries=entries, **known)
