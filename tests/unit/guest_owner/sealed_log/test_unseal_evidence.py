"""The owner's verdict on a stream's evidence (steps 5 and 6): where it is, and what it binds."""

import os

import pytest

from ccinit.errors import VerificationError
from ccinit.formats.sealed_log import BootId, Kind
from ccinit.seal.stream import open_stream
from tests.fakes.documents.unsealed_log import unseal
from tests.unit.guest_owner.sealed_log.sealed_streams import (
    BOOT_ID,
    OWNER,
    PSK,
    Writer,
    good,
    only_finding,
    read,
)


@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.FILL, Kind.SIGNATURE, Kind.END])
def test_unseal_without_evidence_first_is_refused(kind: Kind) -> None:
    writer = Writer.__new__(Writer)
    writer.stream = open_stream(OWNER.public_bytes, BOOT_ID)
    writer.records = []
    writer.event(bytes(64), kind=kind)
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.evidence-place", 1)


def test_unseal_with_evidence_later_is_refused() -> None:
    writer = Writer()
    writer.event(bytes(40), kind=Kind.EVIDENCE)
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.evidence-place", 3)


def test_unseal_with_no_room_for_a_key_in_record_1_is_refused() -> None:
    writer = Writer.__new__(Writer)
    writer.stream = open_stream(OWNER.public_bytes, BOOT_ID)
    writer.records = []
    writer.event(b"short", kind=Kind.EVIDENCE)
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.evidence-place", 1)


def test_unseal_long_evidence_reaches_the_verifier_whole() -> None:
    evidence = os.urandom(100_000)
    writer = Writer(evidence=evidence)
    writer.end()
    seen: list[tuple[bytes, bytes, bytes]] = []

    def verify(given: bytes, boot_id: BootId, key: bytes) -> str:
        seen.append((given, boot_id, key))
        return "tests"

    assert unseal(bytes(writer), OWNER, psk=PSK, verify_evidence=verify).findings == ()
    assert seen == [(evidence, BOOT_ID, writer.stream.public_key)]


def test_unseal_with_evidence_that_does_not_verify_reads_on_and_says_so() -> None:
    def refuse(*_: object) -> str:
        raise VerificationError("quote.report_data", "other")

    result = unseal(bytes(good()), OWNER, psk=PSK, verify_evidence=refuse)
    (finding,) = result.findings
    assert (finding.reason, finding.index) == ("unseal.evidence", 1)
    assert (result.bound, result.ended) == (False, True)


def test_unseal_with_no_evidence_at_all_is_not_bound() -> None:
    writer = Writer(evidence=b"")
    writer.end()
    result = read(bytes(writer))
    assert [finding.reason for finding in result.findings] == ["unseal.evidence"]
    assert unseal(bytes(writer), OWNER, psk=PSK).bound is False


def test_unseal_with_no_verifier_leaves_the_binding_open() -> None:
    result = unseal(bytes(good()), OWNER, psk=PSK)
    assert (result.bound, result.findings) == (None, ())
