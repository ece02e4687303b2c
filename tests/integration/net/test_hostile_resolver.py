"""Names as a hostile resolver answers for them: the certificate decides, not the address."""

import pytest

from tests.faults.plugin import FaultSeen
from tests.integration.net.namespaces import run_apart

CASES = {
    "another's address": "net.certificate_name",
    "a closed address, then another's": "net.certificate_name",
    "in circles": "net.dns",
    "64 KiB of addresses": "net.unreachable",
    "no such name": "net.dns",
    "no addresses": "net.dns",
    "no answer": "net.resolver",
}

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.mark.parametrize("case", CASES)
def test_r97_resolver_that_lies_is_refused_and_asked_again(
    case: str, fault_seen: FaultSeen
) -> None:
    seen = run_apart("tests.integration.net.resolver_program", case)
    assert seen["told"] == [CASES[case], "hello"]
    assert seen["asked"] >= 2
    assert seen["connections"] == 1  # the one that ended well
    assert seen["handshakes"] == 0  # no request was sent to another
    assert seen["seconds"] < 25
    fault_seen.guest(CASES[case])
