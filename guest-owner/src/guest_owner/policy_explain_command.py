"""`guest-owner policy explain`: which rule decides about a resource, and why."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.arguments import Subparsers, add_state
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.audit import AUDIT_NAME, Decision, Event, read_audit
from guest_owner.kbs.policy import Deny, decide, explain
from guest_owner.kbs.references import Profile, References
from guest_owner.kbs.store import Store
from guest_owner.table import format_table


def add_parser(subparsers: Subparsers) -> None:
    """Add `explain` to the commands of `policy`."""
    summary = "Say which rule would decide about a resource, for a session or a described guest."
    parser = subparsers.add_parser("explain", help=summary, description=summary)
    add_state(parser)
    parser.add_argument("uri", metavar="URI", help="kbs:///repository/type/tag")
    guest = parser.add_mutually_exclusive_group(required=True)
    guest.add_argument(
        "--session",
        metavar="LABEL",
        help="the guest that attested in this session of the audit log",
    )
    guest.add_argument("--reference", metavar="NAME", help="a guest with this registered image")
    parser.add_argument(
        "--initdata", metavar="NAME", help="with --reference: and this registered document"
    )
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="NAME",
        help="with --reference: and with this device; may be repeated",
    )
    parser.set_defaults(func=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    store = Store(arguments.state)
    uri = parse_resource_uri(arguments.uri, "resource.uri")
    references = store.read_references()
    subject, basis = (
        _of_session(arguments.state / AUDIT_NAME, arguments.session)
        if arguments.session is not None
        else (_described(references, arguments), frozenset[str]())
    )
    subject = subject.with_aliases(references)
    policy = store.read_policy()
    print(f"guest: image {subject.reference} ({subject.profile}), initdata {subject.initdata_name}")
    rows = [
        (str(number), str(outcome.rule.resources), outcome.reason or "allows")
        for number, outcome in enumerate(explain(policy, uri, subject), 1)
    ]
    print(format_table(("rule", "resources", "verdict"), rows))
    decision = decide(policy, uri, subject)
    if not subject.is_registered(references):
        print(f"{uri}: denied, the guest's registration was withdrawn")
        return 1
    if not references.uphold(basis):
        print(f"{uri}: denied, a key, certificate or requirement that it was appraised by is gone")
        return 1
    if isinstance(decision, Deny):
        print(f"{uri}: denied, {decision.reason}")
        return 1
    print(f"{uri}: {_released(store, uri)} by rule {policy.rules.index(decision.rule) + 1}")
    return 0


def _released(store: Store, uri: ResourceUri) -> str:
    return "released" if store.has_resource(uri) else "nothing is registered, would be released"


def _described(references: References, arguments: argparse.Namespace) -> Subject:
    image, document = arguments.reference, arguments.initdata
    if document is None:
        raise ConfigError("explain.initdata", "--reference needs --initdata")
    for known in references.sets:
        for bound in references.initdata:
            if (known.name, bound.name) == (image, document):
                return Subject(
                    reference=known.name,
                    image=known.images[0],
                    profile=known.profile,
                    initdata_name=bound.name,
                    initdata_digest=bound.digest,
                    devices=frozenset(arguments.device),
                )
    raise ConfigError("explain.unknown", f"{image!r} and {document!r} are not both registered")


def _of_session(log: Path, label: str) -> tuple[Subject, frozenset[str]]:
    """Return who attested, and on what that stands."""
    for record in read_audit(log):
        if (record["session"], record["event"]) != (label, Event.ATTEST.value):
            continue
        if record["decision"] != Decision.ACCEPTED.value:
            raise ConfigError("explain.session", f"{label} was refused: {record['reason']}")
        subject = Subject(
            reference=_written(record, "reference"),
            image=_written(record, "image"),
            profile=_profile(_written(record, "profile")),
            initdata_name=_written(record, "initdata_name"),
            initdata_digest=parse_digest(_written(record, "initdata"), "audit.initdata"),
            devices=_listed(record, "devices"),
        )
        return subject, _listed(record, "basis")
    raise ConfigError("explain.session", f"no attestation of {label!r} is in the audit log")


def _listed(record: Mapping[str, object], key: str) -> frozenset[str]:
    return frozenset(_written(record, key).split(", ") if key in record else ())


def _written(record: Mapping[str, object], key: str) -> str:
    """Return what the log says of an accepted guest; a line that was edited may not have it."""
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise FormatError(f"audit.{key}", "an accepted guest's record does not say it")
    return value


def _profile(name: str) -> Profile:
    for profile in Profile:
        if profile.value == name:
            return profile
    raise FormatError("audit.profile", f"{name[:40]!r} is no profile")
