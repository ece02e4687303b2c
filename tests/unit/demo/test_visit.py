from guest_owner.claims_table import format_claims
from guest_owner.kbs.appraisal import Claim
from tests.demo.visit import read_claims

HELD = Claim(name="pcr.4", expected="aa", got="aa", holds=True)
FAILED = Claim(name="initdata.digest", expected="one of 1", got="sha256:bb", holds=False)


def test_claims_are_read_with_their_verdicts() -> None:
    printed = f"{format_claims([HELD, FAILED])}\n\naccepted: image demo (prod), initdata demo\n"
    claims, verdict = read_claims(printed)
    assert claims == {"pcr.4": "ok", "initdata.digest": "REFUSED"}
    assert verdict == "accepted: image demo (prod), initdata demo"


def test_command_that_printed_nothing_has_no_claims() -> None:
    assert read_claims("") == ({}, "")
