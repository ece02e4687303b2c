"""`guest-owner policy`: who may get which resource."""

import argparse

from guest_owner.arguments import add_group, add_state
from guest_owner.commands import policy_explain as policy_explain_command
from guest_owner.commands import policy_export as policy_export_command
from guest_owner.kbs.exclusion import changing
from guest_owner.kbs.policy import (
    MAX_RULES,
    Rule,
    check_device,
    check_initdata_name,
    parse_pattern,
)
from guest_owner.kbs.references.values import Profile, References, check_name
from guest_owner.kbs.state.local_changes import FileRecorder
from guest_owner.kbs.state.policy_text import add_rule, remove_rule
from guest_owner.kbs.state.store import Store
from guest_owner.table import format_table
from guest_owner.telling import warn
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word


def add_parser(subparsers: Subparsers) -> None:
    """Add `policy allow`, `list`, `remove`, `explain` and `export`."""
    commands = add_group(subparsers, "policy", "Say which guest may get which resource.")
    _add_allow(commands)

    listing = add_command(commands, "list", "Check the policy file and print its rules, numbered.")
    add_state(listing)
    listing.set_defaults(func=_list)

    remove = add_command(commands, "remove", "Remove one rule; the file's comments stay.")
    add_state(remove)
    remove.add_argument(
        "number",
        type=whole_number(1, MAX_RULES),
        metavar="NUMBER",
        help="number of the rule, as `policy list` prints it",
    )
    remove.set_defaults(func=_remove)

    policy_explain_command.add_parser(commands)
    policy_export_command.add_parser(commands)


def _add_allow(commands: Subparsers) -> None:
    allow = add_command(commands, "allow", "Append a rule; without one nothing is released.")
    add_state(allow)
    allow.add_argument(
        "resources",
        type=as_word(parse_pattern),
        metavar="PATTERN",
        help="repository/type/tag, e.g. ccinit/shop/*",
    )
    allow.add_argument(
        "--initdata",
        action="append",
        type=as_word(check_initdata_name),
        required=True,
        metavar="NAME",
        help="registered initdata document, by name or sha256: digest; may be repeated",
    )
    allow.add_argument(
        "--reference",
        action="append",
        type=as_word(lambda name: check_name(name, "policy.reference")),
        default=[],
        metavar="NAME",
        help="registered reference values; may be repeated (default: any of the profile)",
    )
    allow.add_argument(
        "--profile",
        choices=[profile.value for profile in Profile],
        default=Profile.PROD.value,
        help="profile of the reference values (default: %(default)s)",
    )
    allow.add_argument(
        "--device",
        action="append",
        type=as_word(check_device),
        default=[],
        metavar="NAME",
        help="device beside the platform that the guest has, exactly; may be repeated",
    )
    allow.set_defaults(func=_allow)


def _allow(arguments: argparse.Namespace) -> int:
    rule = Rule(
        resources=arguments.resources,
        profile=Profile(arguments.profile),
        references=frozenset(arguments.reference),
        initdata=frozenset(arguments.initdata),
        devices=frozenset(arguments.device),
    )
    recorder = FileRecorder(arguments.state, "policy allow", registered=_text(rule))
    store = Store(arguments.state, recorder)
    unknown = _unregistered(rule, store.read_references())
    with changing(arguments.state):
        # Added twice, a rule would still be there once it is removed.
        rules = store.read_policy().rules
        already = f", as rule {rules.index(rule) + 1} says already" if rule in rules else ""
        if not already:
            store.edit_policy(lambda text: add_rule(text, rule))
    print(f"{rule.resources} may go to {_describe_guests(rule)}{already}")
    for what in unknown:
        # No error: rules may be written before images and pods are registered.
        warn(f"{what} is not registered, nothing goes to it yet")
    return 0


def _describe_guests(rule: Rule) -> str:
    images = " or ".join(sorted(rule.references)) or "any image"
    documents = " or ".join(sorted(rule.initdata))
    devices = f", and {' and '.join(sorted(rule.devices))}" if rule.devices else ""
    return f"guests of {images} ({rule.profile}) with initdata {documents}{devices}"


def _unregistered(rule: Rule, references: References) -> list[str]:
    """Describe the rule's images and documents that are not registered: no guest has them."""
    sets = {known.name for known in references.sets if known.profile is rule.profile}
    documents = {known.name for known in references.initdata}
    documents |= {str(known.digest) for known in references.initdata}
    return [
        *(f"initdata document {name!r}" for name in sorted(rule.initdata - documents)),
        *(f"image {name!r} of profile {rule.profile}" for name in sorted(rule.references - sets)),
    ]


def _list(arguments: argparse.Namespace) -> int:
    policy = Store(arguments.state).read_policy()
    if not policy.rules:
        print("no rules: nothing is released")
        return 0
    rows = [(str(number), *_cells(rule)) for number, rule in enumerate(policy.rules, 1)]
    print(format_table(("rule", "resources", "profile", "references", "initdata", "devices"), rows))
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with changing(arguments.state):
        rules = dict(enumerate(Store(arguments.state).read_policy().rules, 1))
        removed = _text(rules[arguments.number]) if arguments.number in rules else ""
        recorder = FileRecorder(arguments.state, "policy remove", replaced=removed)
        store = Store(arguments.state, recorder)
        store.edit_policy(lambda text: remove_rule(text, arguments.number))
    print(f"removed: {removed}")
    return 0


def _text(rule: Rule) -> str:
    return "  ".join(_cells(rule))


def _cells(rule: Rule) -> tuple[str, ...]:
    return (
        str(rule.resources),
        rule.profile.value,
        ", ".join(sorted(rule.references)) or "any",
        ", ".join(sorted(rule.initdata)),
        ", ".join(sorted(rule.devices)) or "none",
    )
