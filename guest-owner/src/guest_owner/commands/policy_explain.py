"""`guest-owner policy explain`: which rule decides about a resource, and why.

Without a resource it explains all that the guest's document names: a check before the first boot.
"""

import argparse

from ccinit.errors import ConfigError
from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.arguments import add_state, as_uri
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.audit.attested import find_attested
from guest_owner.kbs.audit.log import AUDIT_NAME
from guest_owner.kbs.foresight import foresee
from guest_owner.kbs.policy import Allow, Deny, Policy, check_device, decide, explain
from guest_owner.kbs.references.values import References, check_name
from guest_owner.kbs.state.store import Store
from guest_owner.table import format_table
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import UsageError, as_word


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
    if arguments.session is not None:
        attested = find_attested(arguments.state / AUDIT_NAME, arguments.session)
        subject, basis = attested.subject, attested.basis
    else:
        subject, basis = _described(references, arguments), frozenset[str]()
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
    foreseen = foresee(store, policy, subject)
    rows = [
        (str(one.uri), one.kind, one.defect or "yes", _say(one.decision))
        for one in foreseen.resources
    ]
    print(format_table(("resource", "kind", "registered", "policy"), rows))
    if foreseen.excess:
        print(f"no guest would take all of them: {foreseen.excess}")
    print("keys that only an image's layers name are not among them")
    return 0 if foreseen.gets_all else 1


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
