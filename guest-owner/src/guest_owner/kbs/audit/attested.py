"""Who attested in a session, as the audit log has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.encoding.digest import parse_digest
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.audit.log import read_audit
from guest_owner.kbs.audit.record import Decision, Event
from guest_owner.kbs.references.values import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedGuest:
    """A guest whose evidence was accepted.

    Attributes:
        basis: what its appraisal stood on (`References.basis_of`).
    """

    subject: Subject
    basis: frozenset[str]


def find_attested(log: Path, session: str) -> AttestedGuest:
    """Return who attested in a session.

    Args:
        log: path of the newest file of the audit log.
        session: the session's label.

    Raises:
        ConfigError: `explain.session`: nobody attested in it, or the evidence was refused; as
            `read_audit`.
        FormatError: below `audit`: the record lacks something, as an older one does, or was edited.
    """
    for record in read_audit(log):
        if (record["session"], record["event"]) != (session, Event.ATTEST.value):
            continue
        if record["decision"] != Decision.ACCEPTED.value:
            raise ConfigError("explain.session", f"{session} was refused: {record['reason']}")
        return AttestedGuest(
            subject=Subject(
                reference=_written(record, "reference"),
                image=_written(record, "image"),
                profile=_profile(_written(record, "profile")),
                initdata_name=_written(record, "initdata_name"),
                initdata_digest=parse_digest(_written(record, "initdata"), "audit.initdata"),
                devices=_listed(record, "devices"),
            ),
            basis=_listed(record, "basis"),
        )
    raise ConfigError("explain.session", f"no attestation of {session!r} is in the audit log")


def _listed(record: Mapping[str, object], key: str) -> frozenset[str]:
    return frozenset(_written(record, key).split(", ") if key in record else ())


def _written(record: Mapping[str, object], key: str) -> str:
    """Return what the log says of an accepted guest; an older record may lack it.

    Raises:
        FormatError: below `audit`.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value:
        detail = "the session's record lacks it: an older guest-owner wrote it, or it was edited"
        remedy = "describe the guest by --reference and --initdata"
        raise FormatError(f"audit.{key}", f"{detail}; {remedy}")
    return value


def _profile(name: str) -> Profile:
    for profile in Profile:
        if profile.value == name:
            return profile
    raise FormatError("audit.profile", f"{name[:40]!r} is not a profile")
