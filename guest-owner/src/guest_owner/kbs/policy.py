"""The appraisal policy: which guest may get which resource. Default deny.

A policy is a TOML file that the owner can read aloud:

    version = 1

    [[rule]]
    resources  = "ccinit/shop/*"     # repository/type/tag; `*` ends a segment or is one
    profile    = "prod"              # of the reference values; "test" for test images only
    references = ["trixie-1"]        # registered reference values; empty: any of the profile
    initdata   = ["shop"]            # names or sha256: digests of registered initdata documents
    devices    = []                  # beside the platform, exactly; see guest_owner.kbs.devices

A rule that names no initdata is refused: the document is the pod, and a rule for any pod would
release to one that the host made. An image or a document that is registered under several names
goes by each of them. Patterns of `prod` and `test` rules must not overlap, so that a test guest can
never get a resource that a production guest gets, whatever order the rules are in.

A device that proves nothing can be named by `test` rules alone. A guest that has another device
than the rule names, or lacks one, gets nothing by it.

Whether evidence is genuine is `guest_owner.kbs.verifiers`; nothing here looks at evidence.
"""

from dataclasses import dataclass

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.devices import PROVING, Device
from guest_owner.kbs.references.values import Profile, check_name

MAX_RULES = 1024
MAX_POLICY_BYTES = 256 * 1024
_MAX_PATTERN_BYTES = 400


@dataclass(frozen=True, slots=True)
class Pattern:
    """Three segments, each a literal or a prefix followed by `*`."""

    segments: tuple[str, str, str]

    def __str__(self) -> str:
        return "/".join(self.segments)

    def matches(self, uri: ResourceUri) -> bool:
        """Whether the pattern covers the resource."""
        parts = (uri.repository, uri.type, uri.tag)
        return all(map(_segment_matches, self.segments, parts))

    def overlaps(self, other: "Pattern") -> bool:
        """Whether some resource is covered by both patterns."""
        return all(map(_segments_overlap, self.segments, other.segments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One `[[rule]]`; `references` empty means any set of the profile."""

    resources: Pattern
    profile: Profile
    references: frozenset[str]
    initdata: frozenset[str]
    devices: frozenset[Device] = frozenset()

    def __post_init__(self) -> None:
        idle = self.devices - PROVING
        if idle and self.profile is not Profile.TEST:
            raise FormatError(
                "policy.rule.devices",
                f"anybody can make evidence of {', '.join(sorted(idle))}: it is for `test` only",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All rules; a policy without rules releases nothing."""

    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        production = [rule for rule in self.rules if rule.profile is Profile.PROD]
        test = [rule for rule in self.rules if rule.profile is Profile.TEST]
        for rule in test:
            for other in production:
                if rule.resources.overlaps(other.resources):
                    raise FormatError(
                        "policy.rule.overlap",
                        f"test rule {rule.resources} overlaps prod rule {other.resources}",
                    )

    @property
    def devices(self) -> frozenset[Device]:
        """Every device that some rule names: evidence of any other is refused."""
        return frozenset(device for rule in self.rules for device in rule.devices)


@dataclass(frozen=True, slots=True)
class Allow:
    """The resource may be released; `rule` says by what, and `number` which it is, from 1 on."""

    rule: Rule
    number: int


@dataclass(frozen=True, slots=True)
class Deny:
    """The resource is withheld; `reason` is for the audit log."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What one rule says about one request.

    Attributes:
        conditions_met: how many of resource, profile, reference values, initdata and devices, in
            this order, hold before the first that does not.
        reason: the first that does not hold; "" if the rule allows the release.
    """

    rule: Rule
    conditions_met: int
    reason: str


def decide(policy: Policy, uri: ResourceUri, subject: Subject) -> Allow | Deny:
    """Decide about one resource and one appraised guest.

    A refusal has the reason of the rule that came closest.
    """
    outcomes = explain(policy, uri, subject)
    for number, outcome in enumerate(outcomes, 1):
        if not outcome.reason:
            return Allow(outcome.rule, number)
    closest = max(outcomes, key=lambda outcome: outcome.conditions_met, default=None)
    if closest is None or not closest.conditions_met:
        return Deny("no rule covers the resource")
    return Deny(closest.reason)


def explain(policy: Policy, uri: ResourceUri, subject: Subject) -> tuple[RuleOutcome, ...]:
    """Return what each rule says, in the order of the policy."""
    return tuple(_apply(rule, uri, subject) for rule in policy.rules)


def _apply(rule: Rule, uri: ResourceUri, subject: Subject) -> RuleOutcome:
    if not rule.resources.matches(uri):
        met, reason = 0, "does not cover the resource"
    elif rule.profile is not subject.profile:
        met, reason = 1, f"the guest's image has profile {subject.profile}"
    elif rule.references and rule.references.isdisjoint(_image_names(subject)):
        met, reason = 2, f"reference values {subject.reference} are not named"
    elif rule.initdata.isdisjoint(_document_names(subject)):
        met, reason = 3, f"initdata {subject.initdata_name} is not named"
    elif subject.devices != rule.devices:
        met, reason = 4, _differing_devices(rule, subject)
    else:
        met, reason = 5, ""
    return RuleOutcome(rule=rule, conditions_met=met, reason=reason)


def _image_names(subject: Subject) -> frozenset[str]:
    return subject.reference_aliases.union((subject.reference,))


def _document_names(subject: Subject) -> frozenset[str]:
    own = (subject.initdata_name, str(subject.initdata_digest))
    return subject.initdata_aliases.union(own)


def _differing_devices(rule: Rule, subject: Subject) -> str:
    for name in sorted(subject.devices - rule.devices):
        return f"device {name} is not named"
    return f"the guest has no {min(rule.devices - subject.devices)}"


def parse_policy(data: bytes) -> Policy:
    """Read a policy file.

    Raises:
        FormatError: with a reason below `policy`.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise LimitExceededError("policy.length", f"more than {MAX_POLICY_BYTES} bytes")
    with Fields(parse_toml(data, "policy.toml"), "policy") as fields:
        fields.integer("version", low=1, high=1)
        return Policy(rules=fields.tables("rule", _read_rule, max_items=MAX_RULES))


def _read_rule(fields: Fields) -> Rule:
    initdata = fields.texts("initdata", max_items=1024)
    if not initdata:
        raise FormatError("policy.rule.initdata", "name at least one initdata document")
    return Rule(
        resources=parse_pattern(fields.text("resources", max_bytes=_MAX_PATTERN_BYTES)),
        profile=fields.choice("profile", Profile),
        references=frozenset(
            check_name(name, "policy.rule.references") for name in fields.texts("references")
        ),
        initdata=frozenset(check_initdata_name(name) for name in initdata),
        devices=frozenset(check_device(name) for name in fields.texts("devices")),
    )


def check_device(name: str) -> Device:
    """Return a device that can be judged.

    Raises:
        FormatError: `policy.rule.devices`.
    """
    if name not in set(Device):
        known = ", ".join(Device)
        raise FormatError("policy.rule.devices", f"expected one of {known}, found {name[:40]!r}")
    return Device(name)


def parse_pattern(text: str) -> Pattern:
    """Read `repository/type/tag`, in which a segment may be `*` or end in `*`.

    Raises:
        FormatError: `policy.rule.resources`.
    """
    match text.split("/"):
        case [repository, kind, tag]:
            segments = (repository, kind, tag)
        case _:
            detail = f"expected repository/type/tag, found {text[:80]!r}"
            raise FormatError("policy.rule.resources", detail)
    # With another character in place of each star, a valid pattern is a valid resource name.
    stems = [segment.removesuffix("*") + "x" * segment.endswith("*") for segment in segments]
    parse_resource_uri("kbs:///" + "/".join(stems), "policy.rule.resources")
    return Pattern(segments)


def check_initdata_name(name: str) -> str:
    """Return a registered name or a `sha256:` digest in its only form."""
    if name.startswith("sha256:"):
        return str(parse_digest(name, "policy.rule.initdata"))
    return check_name(name, "policy.rule.initdata")


def _segment_matches(pattern: str, segment: str) -> bool:
    if pattern.endswith("*"):
        return segment.startswith(pattern[:-1])
    return pattern == segment


def _segments_overlap(first: str, second: str) -> bool:
    if first.endswith("*") and second.endswith("*"):
        return first[:-1].startswith(second[:-1]) or second[:-1].startswith(first[:-1])
    if first.endswith("*"):
        return second.startswith(first[:-1])
    if second.endswith("*"):
        return first.startswith(second[:-1])
    return first == second
