from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.policy import (
    MAX_POLICY_BYTES,
    Allow,
    Deny,
    Policy,
    decide,
    explain,
    parse_pattern,
    parse_policy,
)
from guest_owner.kbs.references.measurements.image import SnpMeasurements
from guest_owner.kbs.references.values import Profile, References, register_initdata
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.registrations import MAX_ENTRIES
from tests.unit.guest_owner.kbs.snp_values import MEASUREMENT, snp_image
from tests.unit.guest_owner.kbs.values import reference_set

POD = sha256_digest(b"pod")
KEY = ResourceUri("ccinit", "shop", "volume-key-data")
RULE = """
[[rule]]
resources = "ccinit/shop/*"
profile = "prod"
references = ["image-1"]
initdata = ["shop"]
"""
TEST_RULE = """
[[rule]]
resources = "test/*/*"
profile = "test"
initdata = ["shop"]
"""


(IMAGE,) = reference_set("image-1").images
DEVICES = frozenset(("sampledevice",))


def policy(*rules: str) -> Policy:
    return parse_policy(("version = 1\n" + "".join(rules)).encode())


def subject(
    reference: str = "image-1",
    profile: Profile = Profile.PROD,
    initdata: str = "shop",
    devices: frozenset[str] = frozenset(),
) -> Subject:
    return Subject(
        reference=reference,
        image=IMAGE,
        profile=profile,
        initdata_name=initdata,
        initdata_digest=POD,
        devices=devices,
    )


def test_decide_named_guest_is_allowed() -> None:
    for number, rules in enumerate((policy(RULE), policy(TEST_RULE, RULE, RULE)), 1):
        decision = decide(rules, KEY, subject())
        assert decision == Allow(rules.rules[number - 1], number)
        assert str(decision.rule.resources) == "ccinit/shop/*"


@pytest.mark.parametrize(
    ("uri", "who", "reason"),
    [
        (ResourceUri("ccinit", "shops", "key"), subject(), "no rule covers the resource"),
        (KEY, subject(profile=Profile.TEST), "the guest's image has profile test"),
        (KEY, subject(reference="image-2"), "reference values image-2 are not named"),
        (KEY, subject(initdata="bank"), "initdata bank is not named"),
        (KEY, subject(devices=DEVICES), "device sampledevice is not named"),
    ],
)
def test_decide_anyone_else_is_denied(uri: ResourceUri, who: Subject, reason: str) -> None:
    assert decide(policy(RULE), uri, who) == Deny(reason)


def test_decide_devices_are_those_of_the_rule_exactly() -> None:
    rules = policy(RULE, TEST_RULE + 'devices = ["sampledevice"]\n')
    uri, who = ResourceUri("test", "a", "b"), subject(profile=Profile.TEST, devices=DEVICES)
    assert isinstance(decide(rules, uri, who), Allow)
    assert decide(rules, uri, subject(profile=Profile.TEST)) == Deny(
        "the guest has no sampledevice"
    )
    more = subject(profile=Profile.TEST, devices=DEVICES | {"nvidia"})
    assert decide(rules, uri, more) == Deny("device nvidia is not named")
    assert rules.devices == {"sampledevice"}
    assert policy(RULE).devices == frozenset()


@pytest.mark.parametrize(
    "rule",
    [RULE + 'devices = ["sampledevice"]\n', TEST_RULE + 'devices = ["nvidia"]\n'],
    ids=["production", "unknown"],
)
def test_parse_policy_refuses_a_device_that_cannot_be_judged(rule: str) -> None:
    with pytest.raises(FormatError) as refused:
        policy(rule)
    assert refused.value.reason == "policy.rule.devices"


def test_decide_by_empty_policy_denies() -> None:
    assert decide(parse_policy(EMPTY_POLICY), KEY, subject()) == Deny("no rule covers the resource")
    assert decide(policy(), KEY, subject()) == Deny("no rule covers the resource")


def test_decide_rule_without_references_takes_any_of_its_profile() -> None:
    rules = policy(RULE.replace('references = ["image-1"]\n', ""))
    assert isinstance(decide(rules, KEY, subject(reference="image-2")), Allow)
    assert isinstance(decide(rules, KEY, subject(profile=Profile.TEST)), Deny)


def test_decide_initdata_may_be_named_by_digest() -> None:
    rules = policy(RULE.replace('shop"]', f'{POD}"]'))
    assert isinstance(decide(rules, KEY, subject(initdata="any")), Allow)


def test_decide_test_guest_gets_test_resources_only() -> None:
    rules = policy(RULE, TEST_RULE)
    who = subject(reference="t", profile=Profile.TEST)
    assert isinstance(decide(rules, ResourceUri("test", "a", "b"), who), Allow)
    assert isinstance(decide(rules, KEY, who), Deny)
    assert isinstance(decide(rules, ResourceUri("test", "a", "b"), subject()), Deny)


@pytest.mark.parametrize(
    "pattern", ["ccinit/shop/key", "*/*/*", "ccinit/s*/*", "c*/shop/volume-*", "*/shop/*"]
)
def test_policy_test_rule_that_overlaps_a_prod_rule_is_refused(pattern: str) -> None:
    with pytest.raises(FormatError) as caught:
        policy(RULE, TEST_RULE.replace("test/*/*", pattern))
    assert caught.value.reason == "policy.rule.overlap"
    assert policy(RULE, TEST_RULE.replace("test/*/*", "ccinit/shop-test/*"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "policy.version"),
        ("version = 2", "policy.version"),
        ("version = 1\nallow = true", "policy.unknown"),
        ("version = 1" + RULE + "x = 1", "policy.rule.unknown"),
        ("version = 1" + RULE.replace('initdata = ["shop"]', ""), "policy.rule.initdata"),
        ("version = 1" + RULE.replace('["shop"]', "[]"), "policy.rule.initdata"),
        ("version = 1" + RULE.replace('["shop"]', '["*"]'), "policy.rule.initdata"),
        ("version = 1" + RULE.replace('["shop"]', '["sha256:00"]'), "policy.rule.initdata"),
        ("version = 1" + RULE.replace('"prod"', '"any"'), "policy.rule.profile"),
        ("version = 1" + RULE.replace("ccinit/shop/*", "ccinit/shop"), "policy.rule.resources"),
        ("version = 1" + RULE.replace("ccinit/shop/*", "ccinit/*p/*"), "policy.rule.resources"),
        ("version = 1" + RULE.replace("ccinit/shop/*", "**/shop/*"), "policy.rule.resources"),
        ("version = 1" + RULE.replace("ccinit/shop/*", "../shop/*"), "policy.rule.resources"),
        ("version = 1" + RULE.replace('["image-1"]', '["../x"]'), "policy.rule.references"),
        ("version = [", "policy.toml"),
        ("version = " + "9" * 5000, "policy.toml"),
    ],
)
def test_parse_policy_refuses(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_policy(text.encode())
    assert caught.value.reason == reason


def test_rule_may_name_as_many_documents_as_can_be_registered() -> None:
    names = [f"shop-{number}" for number in range(MAX_ENTRIES + 1)]
    (rule,) = policy(RULE.replace('["shop"]', str(names[1:]))).rules
    assert rule.initdata == frozenset(names[1:])
    with pytest.raises(FormatError) as caught:
        policy(RULE.replace('["shop"]', str(names)))
    assert caught.value.reason == "policy.rule.initdata"


def test_policy_may_be_as_long_as_its_cap() -> None:
    text = ("version = 1" + RULE).encode()
    assert parse_policy(text.ljust(MAX_POLICY_BYTES)) == parse_policy(text)
    with pytest.raises(LimitExceededError) as caught:
        parse_policy(text.ljust(MAX_POLICY_BYTES + 1))
    assert caught.value.reason == "policy.length"


@pytest.mark.parametrize(
    ("pattern", "covered", "beyond"),
    [
        ("ccinit/shop/key", ["ccinit/shop/key"],
         ["other/shop/key", "ccinit/bank/key", "ccinit/shop/keys", "ccinit/shop/ke"]),
        ("ccinit/shop/key*", ["ccinit/shop/key", "ccinit/shop/key-2"], ["ccinit/shop/ke"]),
        ("ccinit/s*/key", ["ccinit/s/key", "ccinit/shop/key"],
         ["ccinit/bank/key", "ccinit/shop/key-2"]),
        ("c*/shop/*", ["c/shop/x", "ccinit/shop/key"], ["a/shop/x", "ccinit/bank/key"]),
    ],
)  # fmt: skip
def test_pattern_covers_by_all_three_segments(
    pattern: str, covered: list[str], beyond: list[str]
) -> None:
    parsed = parse_pattern(pattern)
    for name, expected in (
        *((name, True) for name in covered),
        *((name, False) for name in beyond),
    ):
        assert parsed.matches(ResourceUri(*name.split("/"))) is expected, name


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "a"), ("*", "a"), ("a*", "a"), ("a*", "ab"), ("a*", "ab*"), ("ab*", "ab*"), ("*", "a*")],
)
@pytest.mark.parametrize("form", ["{}/x/x", "x/{}/x", "x/x/{}"])
def test_patterns_with_a_resource_in_common_overlap(form: str, one: str, other: str) -> None:
    first, second = (parse_pattern(form.format(part)) for part in (one, other))
    assert first.overlaps(second)
    assert second.overlaps(first)
    elsewhere = parse_pattern(form.format("b"))
    assert elsewhere.overlaps(second) is (other == "*")


SEGMENT = st.text("ab", min_size=1, max_size=3)
PATTERN = st.one_of(SEGMENT, st.just("*"), SEGMENT.map(lambda stem: stem + "*"))


@given(st.tuples(PATTERN, PATTERN), st.lists(SEGMENT, min_size=3, max_size=3))
def test_patterns_that_cover_one_resource_overlap(
    patterns: tuple[str, str], segments: list[str]
) -> None:
    uri = ResourceUri(*segments)
    first, second = (parse_pattern(f"{part}/*/*") for part in patterns)
    if first.matches(uri) and second.matches(uri):
        assert first.overlaps(second)
        assert second.overlaps(first)
    assert first.overlaps(first)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("ab*", "a"), ("ab*", "ac*"), ("a*", "b")])
def test_patterns_without_a_resource_in_common_do_not_overlap(one: str, other: str) -> None:
    first, second = (parse_pattern(f"{part}/*/*") for part in (one, other))
    assert not first.overlaps(second)
    assert not second.overlaps(first)


def registered(*documents: tuple[str, bytes]) -> References:
    return References(
        sets=(reference_set("image-1"),),
        initdata=tuple(register_initdata(name, document) for name, document in documents),
    )


def test_guest_is_registered_while_its_names_stand_for_the_same() -> None:
    guest = subject()
    assert guest.is_registered(registered(("bank", b"other"), ("shop", b"pod")))
    assert not guest.is_registered(registered(("shop", b"other")))
    assert not guest.is_registered(registered(("old", b"pod")))
    # The old document is kept under another name; its guests must not act as the new `shop`.
    assert not guest.is_registered(registered(("old", b"pod"), ("shop", b"other")))
    assert not subject(reference="image-2").is_registered(registered(("shop", b"pod")))


def test_guest_is_registered_while_its_image_has_its_name_and_profile() -> None:
    guest, known = subject(), registered(("shop", b"pod"))
    assert guest.is_registered(known)
    renewed = replace(reference_set("image-2"), name="image-1")
    assert not guest.is_registered(replace(known, sets=(renewed,)))
    # The old image is kept under another name; its guests must not act as the new `image-1`.
    kept = replace(reference_set("image-1"), name="image-0")
    assert not guest.is_registered(replace(known, sets=(kept, renewed)))
    demoted = replace(reference_set("image-1"), profile=Profile.TEST)
    assert not guest.is_registered(replace(known, sets=(demoted,)))


def test_guest_is_registered_as_long_as_its_own_measurement_of_an_image_is() -> None:
    image = snp_image()
    documents = registered(("shop", b"pod")).initdata
    first, second = (replace(subject(), image=text) for text in image.images)
    both = References(sets=(image,), initdata=documents)
    assert (first.is_registered(both), second.is_registered(both)) == (True, True)
    kept = replace(image, measured=SnpMeasurements(values=(MEASUREMENT,)))
    one = References(sets=(kept,), initdata=documents)
    assert (first.is_registered(one), second.is_registered(one)) == (True, False)


def test_image_goes_by_each_name_that_its_measurement_has() -> None:
    known = registered(("shop", b"pod"))
    copy = replace(reference_set("image-1"), name="a-copy")
    both = replace(known, sets=(copy, reference_set("image-1"), reference_set("image-2")))
    guest = subject(reference="a-copy").with_aliases(both)
    assert guest.reference_aliases == {"a-copy", "image-1"}
    assert isinstance(decide(policy(RULE), KEY, guest), Allow)
    other = subject(reference="a-copy").with_aliases(replace(known, sets=(copy,)))
    assert decide(policy(RULE), KEY, other) == Deny("reference values a-copy are not named")
    # Two images have one of their measurements in common: a guest with it is a guest of both.
    wide, narrow = snp_image("wide"), snp_image("narrow")
    values = (*wide.measured.identities[0], *narrow.measured.identities[0])
    wide = replace(wide, measured=SnpMeasurements(values=values))
    sets = replace(known, sets=(narrow, wide))
    common = replace(subject(), image=narrow.images[0]).with_aliases(sets)
    only = replace(subject(), image=wide.images[0]).with_aliases(sets)
    assert common.reference_aliases == {"narrow", "wide"}
    assert only.reference_aliases == {"wide"}


def test_document_goes_by_each_of_its_names() -> None:
    known = registered(("bank", b"pod"), ("bureau", b"other"), ("shop", b"pod"))
    guest = subject(initdata="bank").with_aliases(known)
    assert guest.initdata_aliases == {"bank", "shop"}
    assert isinstance(decide(policy(RULE), KEY, guest), Allow)
    other = subject(initdata="bank").with_aliases(registered(("bank", b"pod"), ("shop", b"other")))
    assert decide(policy(RULE), KEY, other) == Deny("initdata bank is not named")


FURTHER_AND_FURTHER = (
    ('resources = "ccinit/bank/*"', "does not cover the resource"),
    ('profile = "test"', "the guest's image has profile prod"),
    ('references = ["image-2"]', "reference values image-1 are not named"),
    ('initdata = ["bank"]', "initdata shop is not named"),
    ("", "device sampledevice is not named"),
)


@pytest.mark.parametrize(("near", "closest"), [(0, 1), (0, 2), (2, 3), (3, 4)])
def test_refusal_has_the_reason_of_the_rule_that_came_closest(near: int, closest: int) -> None:
    """And `explain` that of each, in the order of the policy.

    No resource has a rule of each profile, so 1 and 2 do not meet.
    """

    def failing_at(number: int) -> str:
        other, _ = FURTHER_AND_FURTHER[number]
        key = other.partition(" = ")[0]
        kept = [line for line in RULE.splitlines() if not line.startswith(key) or not key]
        return "\n".join((*kept, other, ""))

    guest = subject(devices=DEVICES)
    for order in ((near, closest), (closest, near)):
        rules = policy(*map(failing_at, order))
        reasons = [FURTHER_AND_FURTHER[number][1] for number in order]
        assert [outcome.reason for outcome in explain(rules, KEY, guest)] == reasons
        assert decide(rules, KEY, guest) == Deny(FURTHER_AND_FURTHER[closest][1])
