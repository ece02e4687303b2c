import pytest

from ccinit.errors import FormatError
from guest_owner.kbs.policy import parse_policy
from guest_owner.kbs.state.policy_text import EMPTY_POLICY, add_rule, remove_rule

TEXT = """\
# the owner's words
version = 1

# first
[[rule]]  # about a
resources = "a/b/*"
profile = "prod"
initdata = ["shop"]

# second
[[rule]]
# inside the second
resources = "c/d/*"
profile = "prod"
initdata = ["bank"]
"""


def test_add_then_remove_gives_the_text_back() -> None:
    first, second = parse_policy(TEXT.encode()).rules
    added = add_rule(add_rule(EMPTY_POLICY.decode(), first), second)
    assert parse_policy(added.encode()).rules == (first, second)
    once = add_rule(EMPTY_POLICY.decode(), first)
    assert remove_rule(added, 2).rstrip() == once.rstrip()


def test_remove_leaves_every_other_line() -> None:
    assert "# second\n[[rule]]\n# inside the second" in remove_rule(TEXT, 1)
    assert "the owner's words" in remove_rule(TEXT, 1)
    assert '"a/b/*"' not in remove_rule(TEXT, 1)
    assert remove_rule(TEXT, 2).endswith('initdata = ["shop"]\n\n# second\n')


@pytest.mark.parametrize("number", [0, 3, -1])
def test_remove_of_no_rule_is_refused(number: int) -> None:
    with pytest.raises(FormatError) as refused:
        remove_rule(TEXT, number)
    assert refused.value.reason == "policy.rule.number"


def test_remove_from_a_file_that_is_not_one_header_a_rule_is_refused() -> None:
    text = 'version = 1\nrule = [{resources = "a/b/c", profile = "prod", initdata = ["x"]}]\n'
    assert len(parse_policy(text.encode()).rules) == 1
    with pytest.raises(FormatError) as refused:
        remove_rule(text, 1)
    assert refused.value.reason == "policy.edit"
