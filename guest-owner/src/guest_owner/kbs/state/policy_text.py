"""The policy file's text: its beginning, and edits that keep the owner's comments and order.

People write the file, and no TOML writer keeps what stands around the values. So rules are added
and removed as lines, and the result is used only if it parses to exactly the right rules.
"""

import json
import re
from typing import Final

from ccinit.errors import FormatError
from guest_owner.kbs.policy import Policy, Rule, parse_policy

_HEADER: Final = re.compile(r"\s*\[\[\s*rule\s*\]\]\s*(#.*)?")

EMPTY_POLICY = b"""\
# Who may get which resource. Nothing is released unless a rule says so.
#
# [[rule]]
# resources  = "ccinit/POD/*"    # repository/type/tag; * ends a segment or is one
# profile    = "prod"            # "test" for test images, whose resources overlap no prod rule
# references = ["IMAGE"]         # registered reference values; leave out for any of the profile
# initdata   = ["POD"]           # registered initdata documents, by name or sha256: digest
# devices    = []                # what vouches beside the platform, exactly; test rules only

version = 1
"""


def add_rule(text: str, rule: Rule) -> str:
    """Return the file with one more rule at its end.

    Raises:
        FormatError: below `policy`, for a rule that conflicts with the others.
    """
    values = {
        "resources": str(rule.resources),
        "profile": rule.profile.value,
        "references": sorted(rule.references),
        "initdata": sorted(rule.initdata),
        "devices": sorted(rule.devices),
    }
    # Checked names and patterns contain nothing that JSON and TOML write differently.
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value]
    before = parse_policy(text.encode())
    added = text.rstrip("\n") + "\n\n[[rule]]\n" + "\n".join(lines) + "\n"
    return _checked(added, Policy(rules=(*before.rules, rule)))


def remove_rule(text: str, number: int) -> str:
    """Return the file without rule `number`, counted from 1.

    Everything from its `[[rule]]` up to the next goes, except comments directly above the next.

    Raises:
        FormatError: `policy.rule.number` or `policy.edit`.
    """
    rules = parse_policy(text.encode()).rules
    if not 1 <= number <= len(rules):
        raise FormatError(
            "policy.rule.number", f"there is no rule {number}: the policy has {len(rules)}"
        )
    lines = text.splitlines(keepends=True)
    headers = [index for index, line in enumerate(lines) if _HEADER.fullmatch(line.rstrip("\n"))]
    if len(headers) != len(rules):
        why = "not every rule begins with a [[rule]] line of its own; edit the file by hand"
        raise FormatError("policy.edit", why)
    start = headers[number - 1]
    end = headers[number] if number < len(headers) else len(lines)
    while number < len(headers) and lines[end - 1].lstrip().startswith("#"):
        end -= 1
    kept = rules[: number - 1] + rules[number:]
    return _checked("".join(lines[:start] + lines[end:]), Policy(rules=kept))


def _checked(text: str, expected: Policy) -> str:
    if parse_policy(text.encode()) != expected:
        raise FormatError(
            "policy.edit", "this would change other rules, too; edit the file by hand"
        )
    return text
