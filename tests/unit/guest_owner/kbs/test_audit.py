import json
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.audit import (
    MAX_TEXT,
    AuditLog,
    AuditRecord,
    Decision,
    Event,
    read_audit,
)

RECORD = AuditRecord(
    event=Event.ATTEST,
    session="label",
    tee="tpm",
    decision=Decision.REFUSED,
    reason="pcr.9: evidence refused",
    claims=(Claim(name="pcr.9", expected="aa", got="bb", holds=False),),
)


def test_append_then_read_gives_the_records_in_order(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append(RECORD)
    log.append(
        AuditRecord(
            event=Event.RESOURCE,
            session="label",
            tee="tpm",
            decision=Decision.RELEASED,
            resource="kbs:///a/b/c",
        )
    )
    first, second = read_audit(tmp_path / "audit.jsonl")
    assert first["claims"] == [{"name": "pcr.9", "expected": "aa", "got": "bb", "holds": False}]
    assert (second["decision"], second["resource"]) == ("released", "kbs:///a/b/c")
    assert "claims" not in second
    assert str(first["time"]) <= str(second["time"])
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_append_keeps_one_record_a_line_whatever_a_peer_sends(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    hostile = 'x"}\n{"time":"now"\r\u2028\x1b[2J' + "y" * (2 * MAX_TEXT)
    AuditLog(path).append(
        AuditRecord(
            event=Event.AUTH, session="", tee=hostile, decision=Decision.REFUSED, reason=hostile
        )
    )
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().isascii()
    (record,) = read_audit(path)
    assert record["tee"] == hostile[:MAX_TEXT]


def test_append_that_cannot_write_says_so(tmp_path: Path) -> None:
    with pytest.raises(CcinitError) as caught:
        AuditLog(tmp_path / "absent/audit.jsonl").append(RECORD)
    assert caught.value.reason == "audit.write"


@pytest.mark.parametrize("line", ["{", "[]", '{"time": "now"}'])
def test_read_audit_names_the_line_that_is_broken(tmp_path: Path, line: str) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(RECORD)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CcinitError, match="line 2") as caught:
        list(read_audit(path))
    assert caught.value.reason == "audit.line"


def test_accepted_registers_are_hex_by_number(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    pcrs = {str(index): f"{index:02x}" * 32 for index in range(24)}
    AuditLog(path).append(
        AuditRecord(
            event=Event.ATTEST,
            session="s",
            tee="tpm",
            decision=Decision.ACCEPTED,
            measured={"pcr": pcrs},
        )
    )
    record = json.loads(path.read_text())
    assert record["pcr"]["9"] == "09" * 32
    assert len(record["pcr"]) == 24
