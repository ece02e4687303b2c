import errno
import json
import os
import stat
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from guest_owner.kbs.audit.claims import MAX_TEXT, decode_claims
from guest_owner.kbs.audit.log import AuditLog, read_audit
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from tests.fakes.machine.disk_log import log_disk
from tests.fakes.machine.scarcity import room_for
from tests.unit.guest_owner.kbs.audit_records import RECORD


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
    assert first["claims"] == [{"name": "pcr.9", "expected": "aa", "got": "aa", "holds": True}]
    assert (second["decision"], second["resource"]) == ("released", "kbs:///a/b/c")
    assert "claims" not in second
    assert str(first["time"]) <= str(second["time"])
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_commands_change_has_files_of_its_own_and_is_read_with_the_rest(
    tmp_path: Path,
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append(RECORD)
    log.append(
        AuditRecord(
            event=Event.ADMIN,
            decision=Decision.ACCEPTED,
            request="register",
            user="root",
            registered="reference image-2",
            replaced="reference image-1",
        )
    )
    ours = (tmp_path / "audit-local.jsonl").read_bytes()
    assert (ours.count(b"\n"), b'"user":"root"' in ours) == (1, True)
    changed = list(read_audit(tmp_path / "audit.jsonl"))[1]
    assert (changed["user"], changed["request"]) == ("root", "register")
    assert (changed["registered"], changed["replaced"]) == (
        "reference image-2",
        "reference image-1",
    )


def test_append_keeps_one_record_a_line_whatever_a_peer_sends(tmp_path: Path) -> None:
    path = tmp_path / "audit-strangers.jsonl"
    hostile = 'x"}\n{"time":"now"\r\u2028\x1b[2J' + "y" * (2 * MAX_TEXT)
    AuditLog(tmp_path / "audit.jsonl").append(
        AuditRecord(
            event=Event.AUTH, session="", tee=hostile, decision=Decision.REFUSED, reason=hostile
        )
    )
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().isascii()
    (record,) = read_audit(tmp_path / "audit.jsonl")
    assert record["tee"] == hostile[:MAX_TEXT]


def test_everything_that_an_administrator_registers_is_named(tmp_path: Path) -> None:
    names = ", ".join(f"reference image-{number}" for number in range(1000))
    record = AuditRecord(
        event=Event.ADMIN,
        session="",
        tee="",
        decision=Decision.ACCEPTED,
        request="POST /kbs/v0/reference-value" + "x" * MAX_TEXT,
        administrator="alice",
        registered=names,
    )
    AuditLog(tmp_path / "audit.jsonl").append(record)
    (read,) = read_audit(tmp_path / "audit.jsonl")
    assert read["registered"] == names
    assert read["request"] == record.request[:MAX_TEXT]


def test_append_that_cannot_write_says_so(tmp_path: Path) -> None:
    with pytest.raises(CcinitError) as caught:
        AuditLog(tmp_path / "absent/audit.jsonl").append(RECORD)
    assert caught.value.reason == "audit.write"


def test_log_whose_directory_was_replaced_is_anothers(tmp_path: Path) -> None:
    """A KBS that runs on holds the old one: the new one's may have been started by now."""
    state, aside = tmp_path / "owner", tmp_path / "owner-old"
    state.mkdir()
    log = AuditLog(state / "audit.jsonl")
    log.append(RECORD)
    state.rename(aside)
    state.mkdir()
    with pytest.raises(CcinitError) as caught:
        log.append(RECORD)
    assert caught.value.reason == "state.replaced"
    assert not list(state.iterdir())
    AuditLog(state / "audit.jsonl").append(RECORD)
    state.rename(tmp_path / "owner-new")
    aside.rename(state)
    log.append(RECORD)
    assert len(list(read_audit(state / "audit.jsonl"))) == 2


def test_record_that_fits_only_in_part_is_refused_and_leaves_the_log_as_it_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit.jsonl"
    observed: list[AuditRecord] = []
    log = AuditLog(path, observe=observed.append)
    log.append(RECORD)
    before = path.read_bytes()
    with room_for(len(before) + 20), pytest.raises(CcinitError) as caught:
        log.append(RECORD)
    assert caught.value.reason == "audit.write"
    assert path.read_bytes() == before
    assert observed == [RECORD]
    log.append(RECORD)
    assert len(list(read_audit(path))) == 2


def test_record_whose_file_may_be_lost_is_refused_and_in_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    done = log_disk(monkeypatch)
    flush, broken = os.fsync, OSError(errno.EIO, os.strerror(errno.EIO))

    def flush_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise broken
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", flush_files)
        for _ in range(2):
            with pytest.raises(CcinitError) as caught:
                log.append(RECORD)
            assert caught.value.reason == "audit.write"
    assert not list(read_audit(path))
    # The name of a file that is there already is flushed, too: it was not before.
    log.append(RECORD)
    assert len(list(read_audit(path))) == 1
    assert done == ["flush folder", "flush file"]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"5", b'{"time": "now"}', b"\xff", b'{"time": "\xe9"}', b"[" * 100_000]
)
def test_read_audit_names_the_line_that_is_broken(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(RECORD)
    with path.open("ab") as file:
        file.write(line + b"\n")
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


@pytest.mark.parametrize(
    "claims",
    [
        "x",
        {},
        ["x"],
        [{"name": "pcr.9", "expected": "a", "got": "b"}],
        [{"name": "pcr.9", "expected": "a", "got": "b", "holds": "no"}],
        [{"name": 1, "expected": "a", "got": "b", "holds": True}],
    ],
)
def test_decode_claims_refuses_what_no_appraisal_wrote(claims: object) -> None:
    good = {"name": "pcr.9", "expected": "a", "got": "b", "holds": True}
    assert decode_claims({"claims": [good]})[0].name == "pcr.9"
    assert decode_claims({}) == ()
    with pytest.raises(CcinitError) as caught:
        decode_claims({"claims": claims})
    assert caught.value.reason.startswith("audit.claims")
