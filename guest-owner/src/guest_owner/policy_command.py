"""`guest-owner policy`: who may get which resource."""

import argparse
import json

from guest_owner import policy_export_command
from guest_owner.arguments import Subparsers, add_group, add_state
from guest_owner.kbs.files import read_capped
from guest_owner.kbs.policy import MAX_POLICY_BYTES, check_initdata_name, parse_pattern
from guest_owner.kbs.references import Profile, check_name
from guest_owner.kbs.store import Store
from guest_owner.table import format_table


def add_parser(subparsers: Subparsers) -> None:
    """Add `policy allow`, `policy show` and `policy export`."""
    commands = add_group(subparsers, "policy", "Say which guest may get which resource.")
    summary = "Append a rule; without one nothing is released."
    allow = commands.add_parser("allow", help=summary, description=summary)
    add_state(allow)
    allow.add_argument(
        "resources", metavar="PATTERN", help="repository/type/tag, e.g. ccinit/shop/*"
    )
    allow.add_argument(
        "--initdata",
        action="append",
        required=True,
        metavar="NAME",
        help="registered initdata document, by name or sha256: digest; may be repeated",
    )
    allow.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="NAME",
        help="registered reference values; may be repeated (default: any of the profile)",
    )
    allow.add_argument(
        "--profile",
        choices=[profile.value for profile in Profile],
        default=Profile.PROD.value,
        help="of the reference values (default: %(default)s)",
    )
    allow.set_defaults(func=_allow)

    summary = "Check the policy file and print its rules."
    show = commands.add_parser("show", help=summary, description=summary)
    add_state(show)
    show.set_defaults(func=_show)
    policy_export_command.add_parser(commands)


def _allow(arguments: argparse.Namespace) -> int:
    store = Store(arguments.state)
    rule = {
        "resources": str(parse_pattern(arguments.resources)),
        "profile": arguments.profile,
        "references": [check_name(name, "policy.reference") for name in arguments.reference],
        "initdata": [check_initdata_name(name) for name in arguments.initdata],
    }
    # Checked names and patterns hold nothing that JSON and TOML would write differently.
    lines = [f"{key} = {json.dumps(value)}" for key, value in rule.items() if value]
    text = read_capped(store.policy_path, MAX_POLICY_BYTES).decode("utf-8", errors="strict")
    text = text.rstrip("\n") + "\n\n[[rule]]\n" + "\n".join(lines) + "\n"
    store.write_policy(text.encode())
    print(f"{rule['resources']} may go to {arguments.profile} guests with the named initdata")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    policy = Store(arguments.state).read_policy()
    if not policy.rules:
        print("no rules: nothing is released")
        return 0
    rows = [
        (
            str(rule.resources),
            rule.profile.value,
            ", ".join(sorted(rule.references)) or "any",
            ", ".join(sorted(rule.initdata)),
        )
        for rule in policy.rules
    ]
    print(format_table(("resources", "profile", "references", "initdata"), rows))
    return 0
