"""`guest-owner policy explain`: which rule decides about a resource, and why.

Without a resource it explains all that the guest's document names: a check before the first boot.
"""

import argparse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import ConfigError, FormatError, VerificationError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.initdata.guest_config import EnvelopePolicy
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.resource_uri import KbsUri, PluginUri, ResourceUri
from ccinit.formats.kbs.rollback_counter import PLUGIN as COUNTER_PLUGIN
from ccinit.formats.kbs.rollback_counter import counter_rule
from ccinit.formats.pod.resources import name_counters
from guest_owner.arguments import add_state, as_uri
from guest_owner.files import naming
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.audit.log import AUDIT_NAME, Decision, Event, read_audit
from guest_owner.kbs.counters import Counters
from guest_owner.kbs.policy import Allow, Deny, Policy, check_device, decide, explain
from guest_owner.kbs.references import Profile, References, check_name
from guest_owner.kbs.store import Store
from guest_owner.resources.contents import is_envelope
from guest_owner.resources.pod_contents import judge_resources
from guest_owner.table import format_table
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import UsageError, as_word

_ABSENT = "no"


def add_parser(subparsers: Subparsers) -> None:
    """Add `explain` to the commands of `policy`."""
    summary = "Say which rule would decide about a resource, for a session or a described guest."
    parser = add_command(subparsers, "explain", summary)
    add_state(parser)
    parser.add_argument(
        "uri",
        nargs="?",
        type=as_uri,
        metavar="URI",
        help="kbs:///repository/type/tag (default: each that the guest's document names)",
    )
    guest = parser.add_mutually_exclusive_group(required=True)
    guest.add_argument(
        "--session",
        metavar="LABEL",
        help="the guest that attested in this session of the audit log",
    )
    guest.add_argument(
        "--reference",
        type=as_word(lambda name: check_name(name, "explain.reference")),
        metavar="NAME",
        help="a guest with this registered image",
    )
    parser.add_argument(
        "--initdata",
        type=as_word(lambda name: check_name(name, "explain.initdata")),
        metavar="NAME",
        help="with --reference: and this registered document",
    )
    parser.add_argument(
        "--device",
        action="append",
        type=as_word(check_device),
        default=[],
        metavar="NAME",
        help="with --reference: and with this device; may be repeated",
    )
    parser.set_defaults(func=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    if arguments.session is not None and (arguments.initdata is not None or arguments.device):
        raise UsageError("explain.session", "--initdata and --device go with --reference")
    if arguments.reference is not None and arguments.initdata is None:
        raise UsageError("explain.initdata", "--reference needs --initdata")
    store = Store(arguments.state)
    uri: ResourceUri | None = arguments.uri
    references = store.read_references()
    subject, basis = (
        _of_session(arguments.state / AUDIT_NAME, arguments.session)
        if arguments.session is not None
        else (_described(references, arguments), frozenset[str]())
    )
    subject = subject.with_aliases(references)
    policy = store.read_policy()
    print(f"guest: image {subject.reference} ({subject.profile}), initdata {subject.initdata_name}")
    if not subject.is_registered(references):
        print(f"{uri or 'everything'}: denied, the guest's registration was withdrawn")
        return 1
    if not references.includes(basis):
        gone = "a key, certificate or requirement that it was appraised by is gone"
        print(f"{uri or 'everything'}: denied, {gone}")
        return 1
    if uri is None:
        return _explain_all(store, policy, subject)
    return _explain_one(store, policy, subject, uri)


def _explain_all(store: Store, policy: Policy, subject: Subject) -> int:
    """Print the outcome for each resource that the guest will ask for; 1 if one is not released."""
    document = store.read_initdata(subject.initdata_name)
    with naming(store.root / "initdata" / f"{subject.initdata_name}.toml"):
        config, pod = parse_guest_files(parse_initdata(document))
    contents = _Contents(store, in_envelopes=config.kbs.envelope is EnvelopePolicy.REQUIRED)
    judged = judge_resources(pod, contents.find, with_identity=config.owner is not None)
    unfit = {**judged.unfit, **judged.crowded}
    defects: dict[KbsUri, tuple[str, str | None]] = {
        uri: (
            kind.value,
            f"unfit: {unfit[uri]}" if uri in unfit else _find_defect(contents, uri, kind),
        )
        for uri, kind in judged.named.items()
    }
    defects |= {uri: ("counter", _find_counter_defect(store, uri)) for uri in name_counters(pod)}
    rows, gets_all = [], True
    for uri, (kind, defect) in defects.items():
        decision = _decide(policy, subject, uri)
        rows.append((str(uri), kind, defect or "yes", _say(decision)))
        gets_all &= defect is None and isinstance(decision, Allow)
    print(format_table(("resource", "kind", "registered", "policy"), rows))
    if judged.excess:
        print(f"no guest would take all of them: {judged.excess}")
    print("keys that only an image's layers name are not among them")
    return 0 if gets_all and not judged.excess else 1


@dataclass(frozen=True, slots=True)
class _Contents:
    """Resources as the guest will read them: in envelopes if its document demands these."""

    store: Store
    in_envelopes: bool

    def read(self, uri: ResourceUri, kind: EnvelopeKind) -> bytes:
        data = self.store.read_resource(uri)
        return verify_envelope(data, uri, kind).data if self.in_envelopes else data

    def find(self, uri: KbsUri, kind: EnvelopeKind) -> bytes | None:
        """Return what is registered in the form that the guest takes; `_find_defect` says why not.

        A resource that is made for each guest is not registered.
        """
        if isinstance(uri, ResourceUri):
            with suppress(FormatError, VerificationError):
                return self.read(uri, kind)
        return None


def _find_defect(contents: _Contents, uri: KbsUri, kind: EnvelopeKind) -> str | None:
    """Say why the guest would not get a resource in its form, if it would not."""
    if not isinstance(uri, ResourceUri):
        return f"no plugin {uri.plugin} here"
    if contents.store.read_order(uri) is not None:
        return None
    try:
        data = contents.read(uri, kind)
    except VerificationError as error:
        return _ABSENT if error.reason == "resource.absent" else error.reason
    except FormatError as error:
        return f"no envelope: {error.reason}"
    if not contents.in_envelopes and is_envelope(data):
        return "in an envelope, which nobody opens"
    return None


def _find_counter_defect(store: Store, uri: PluginUri) -> str | None:
    try:
        Counters(store.root).read(uri)
    except VerificationError:
        return _ABSENT
    return None


def _decide(policy: Policy, subject: Subject, uri: KbsUri) -> Allow | Deny:
    """Decide as the KBS does about resources and counters; rules cover nothing else."""
    if isinstance(uri, PluginUri):
        if uri.plugin != COUNTER_PLUGIN:
            return Deny("no rule is about it")
        uri = counter_rule(uri)
    return decide(policy, uri, subject)


def _say(decision: Allow | Deny) -> str:
    if isinstance(decision, Deny):
        return f"denied, {decision.reason}"
    return f"rule {decision.number}"


def _explain_one(store: Store, policy: Policy, subject: Subject, uri: ResourceUri) -> int:
    rows = [
        (str(number), str(outcome.rule.resources), outcome.reason or "allows")
        for number, outcome in enumerate(explain(policy, uri, subject), 1)
    ]
    print(format_table(("rule", "resources", "verdict"), rows))
    decision = decide(policy, uri, subject)
    said = _say(decision)
    if isinstance(decision, Deny):
        print(f"{uri}: {said}")
        return 1
    print(f"{uri}: {_released(store, uri)} by {said}")
    return 0


def _released(store: Store, uri: ResourceUri) -> str:
    return "released" if store.has_resource(uri) else "nothing is registered, would be released"


def _described(references: References, arguments: argparse.Namespace) -> Subject:
    image, document = arguments.reference, arguments.initdata
    known = next((one for one in references.sets if one.name == image), None)
    if known is None:
        raise _unknown(f"reference values {image!r}")
    bound = next((one for one in references.initdata if one.name == document), None)
    if bound is None:
        raise _unknown(f"initdata {document!r}")
    return Subject(
        reference=known.name,
        image=known.images[0],
        profile=known.profile,
        initdata_name=bound.name,
        initdata_digest=bound.digest,
        devices=frozenset(arguments.device),
    )


def _unknown(what: str) -> ConfigError:
    return ConfigError("explain.unknown", f"{what}: not registered under that name")


def _of_session(log: Path, label: str) -> tuple[Subject, frozenset[str]]:
    """Return who attested in the session, and the basis of that appraisal."""
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
