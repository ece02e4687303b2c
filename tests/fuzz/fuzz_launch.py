"""Invariant: any bytes in a launch's secrets end in a `CcinitError` with a reason of their parser,
or are the very secrets that the owner put there; and only the owner's voucher vouches for a log.

Run as `python -m tests.fuzz.fuzz_launch [SECONDS [SEED]]`.
"""

from contextlib import suppress

from ccinit.agent.phases.attestation import plan_resources
from ccinit.attest.launch import LaunchSecrets
from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.kbs.launch_secret import (
    encode_launch_statement,
    parse_launch_statement,
    verify_log_voucher,
    vouch_for_log,
)
from ccinit.formats.pod.manifest import parse_pod_manifest
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.platforms.launch import PSK, STATEMENT, Launch
from tests.fuzz.fuzz_snp import mutate
from tests.fuzz.trials import Trials, run

WANTED = plan_resources(parse_pod_manifest(FULL_POD))
REPORT_DATA = bytes(64)
VOUCHER = vouch_for_log(PSK, REPORT_DATA)


def check_statement(data: bytes) -> None:
    """Carry a statement, if it is one."""
    reason = "launch_statement."
    try:
        statement = parse_launch_statement(data)
        assert parse_launch_statement(encode_launch_statement(statement)) == statement
    except FormatError as error:
        reason = error.reason
    assert reason.startswith("launch_statement."), reason


def check_entries(entries: list[bytes]) -> None:
    """Take what the pod asks for, each as what it is."""
    reason = "envelope."
    try:
        secrets = LaunchSecrets(entries)
        for one in WANTED:
            taken = secrets.take(one.uri, one.kind)
            assert (taken.uri, taken.kind) == (one.uri, one.kind)
        secrets.end()
    except CcinitError as error:
        reason = error.reason
    assert reason.startswith(("envelope.", "launch_secret.")), reason


def check_voucher(data: bytes) -> None:
    """Let nothing vouch but the one voucher."""
    with suppress(CcinitError):
        value = parse_json(data, "fuzz", 4096)
        verify_log_voucher(value, PSK, REPORT_DATA)
        assert value == parse_json(VOUCHER, "fuzz", 4096)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    entries = Launch().entries
    statement = entries.pop(STATEMENT)
    bodies = list(entries.values())
    check_entries(bodies)
    verify_log_voucher(parse_json(VOUCHER, "fuzz", 4096), PSK, REPORT_DATA)
    trials = Trials(seconds, seed)
    for source in trials:
        check_statement(mutate(source, statement))
        check_voucher(mutate(source, VOUCHER))
        changed = list(bodies)
        spot = source.randrange(len(changed))
        changed[spot] = mutate(source, changed[spot])
        check_entries(changed)
    return trials.count


if __name__ == "__main__":
    run(main)
