"""Names as a hostile resolver answers for them: the certificate decides, not the address."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.plugin import FaultSeen

ROOT = Path(__file__).parents[3]
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
    program = (sys.executable, "-m", "tests.integration.net.resolver_program", case)
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    done = subprocess.run(
        ("unshare", "--net", "--mount", *program),
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        timeout=60,
    )
    seen = json.loads(done.stdout)
    assert seen["told"] == [CASES[case], "hello"]
    assert seen["asked"] >= 2
    assert seen["connections"] == 1  # the one that ended well
    assert seen["handshakes"] == 0  # no request was sent to another
    assert seen["seconds"] < 25
    fault_seen.guest(CASES[case])
