"""An audit log in several files: what is turned over, counted and never lost unseen."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ConfigError
from guest_owner.kbs.audit import files as audit_files
from guest_owner.kbs.audit import log as audit_log
from guest_owner.kbs.audit.files import older_files, set_aside
from guest_owner.kbs.audit.log import AuditLog, has_records, read_audit
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.exclusion import LOCK_FILE
from guest_owner.kbs.limits import Limits
from tests.unit.guest_owner.kbs.audit_records import RECORD, REFUSED

SMALL = Limits(audit_file_bytes=1000, audit_older_files=2)


def numbered(number: int) -> AuditRecord:
    return AuditRecord(
        event=Event.ADMIN, session="", tee="tpm", decision=Decision.ACCEPTED, reason=str(number)
    )


def test_log_that_is_full_goes_on_in_a_new_file_that_names_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SMALL)
    for number in range(12):
        log.append(numbered(number))
    older = tmp_path / "audit-000001.jsonl"
    assert sorted(tmp_path.glob("audit*")) == [older, path]
    assert older.stat().st_size <= SMALL.audit_file_bytes
    first = json.loads(path.read_text().splitlines()[0])
    digest = hashlib.sha256(older.read_bytes()).hexdigest()
    assert (first["event"], first["reason"]) == (
        "rotation",
        f"continues audit-000001.jsonl sha256:{digest}",
    )
    reasons = [record["reason"] for record in read_audit(path) if record["event"] == "admin"]
    assert reasons == [str(number) for number in range(12)]


@pytest.fixture
def backup(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Hold the state as a backup does, until that is called."""
    with (tmp_path / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.close


def test_backup_has_a_log_that_can_be_read_though_the_kbs_goes_on(
    tmp_path: Path, backup: Callable[[], None]
) -> None:
    """As `tar` makes it: it reads the names of a folder, and then one file after the other."""
    path, copy = tmp_path / "audit.jsonl", tmp_path / "copy"
    copy.mkdir()
    log = AuditLog(path, SMALL)
    numbers = iter(range(1000))
    while path.stat().st_size < 900 if path.exists() else True:
        log.append(numbered(next(numbers)))
    set_aside(path)
    while path.stat().st_size < 900 if path.exists() else True:
        log.append(numbered(next(numbers)))
    for name in sorted(one.name for one in tmp_path.glob("audit*")):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
        for _ in range(5):
            log.append(numbered(next(numbers)))
    told = [one["reason"] for one in read_audit(copy / path.name) if one["event"] == "admin"]
    assert told == [str(number) for number in range(len(told))]
    assert len(older_files(path)) == 1
    backup()
    log.append(numbered(next(numbers)))
    assert len(older_files(path)) == 2


def test_log_that_somebody_holds_for_ever_has_an_end(
    tmp_path: Path, backup: Callable[[], None]
) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SMALL)
    for number in range(100):
        log.append(numbered(number))
    sizes = [one.stat().st_size for one in older_files(path)]
    assert sizes
    assert max(sizes) < 5 * SMALL.audit_file_bytes
    assert sum(1 for _ in read_audit(path)) > SMALL.audit_older_files
    backup()


def test_oldest_file_goes_only_with_a_record_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    observed: list[AuditRecord] = []
    log = AuditLog(path, SMALL, observed.append)
    first = tmp_path / "audit-000001.jsonl"
    number = 0
    while not (content := first.read_bytes() if first.exists() else b""):
        log.append(numbered(number := number + 1))
    while first.exists():
        log.append(numbered(number := number + 1))
    names = [f"audit-{index:06}.jsonl" for index in (2, 3)]
    assert sorted(path.name for path in tmp_path.glob("audit*")) == [*names, "audit.jsonl"]
    lines, digest = content.count(b"\n"), hashlib.sha256(content).hexdigest()
    told = f"removes audit-000001.jsonl with {lines} records, sha256:{digest}"
    rotations = [record["reason"] for record in read_audit(path) if record["event"] == "rotation"]
    assert told in rotations
    assert [record.reason for record in observed if record.event is Event.ROTATION][-1] == told


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_read_audit_notices_an_older_file_that_was_changed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, Limits(audit_file_bytes=500, audit_older_files=9))
    for number in range(12):
        log.append(numbered(number))
    assert len(list(read_audit(path))) > 12
    second = tmp_path / "audit-000002.jsonl"
    if change == "edit":
        second.write_bytes(second.read_bytes().replace(b'"tpm"', b'"snp"'))
    else:
        second.unlink()
    with pytest.raises(CcinitError) as caught:
        list(read_audit(path))
    assert caught.value.reason == "audit.chain"


def test_older_files_that_were_moved_away_leave_a_readable_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SMALL)
    for number in range(12):
        log.append(numbered(number))
    (tmp_path / "audit-000001.jsonl").unlink()
    assert next(read_audit(path))["event"] == "rotation"


def test_number_of_a_file_that_was_moved_away_is_not_given_again(tmp_path: Path) -> None:
    path, archive = tmp_path / "log/audit.jsonl", tmp_path / "archive"
    path.parent.mkdir()
    archive.mkdir()
    log = AuditLog(path, replace(SMALL, audit_older_files=9))
    for number in range(40):
        log.append(numbered(number))
        for older in older_files(path):
            assert not (archive / older.name).exists()
            older.rename(archive / older.name)
    assert len(list(archive.iterdir())) > 2
    for one in archive.iterdir():
        one.rename(path.with_name(one.name))
    reasons = [record["reason"] for record in read_audit(path) if record["event"] == "admin"]
    assert reasons == [str(number) for number in range(40)]


def test_log_is_read_as_it_was_though_it_is_turned_over_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SMALL)
    for number in range(25):
        log.append(numbered(number))
    before = [record["reason"] for record in read_audit(path)]
    records = read_audit(path)
    begun = [next(records)["reason"]]
    for number in range(25, 60):
        log.append(numbered(number))
    assert not set(begun) & {record["reason"] for record in read_audit(path)}
    assert [*begun, *(record["reason"] for record in records)][: len(before)] == before


def test_log_that_is_turned_over_while_its_files_are_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SMALL)
    for number in range(25):
        log.append(numbered(number))
    find, turned = audit_files.older_files, 0

    def find_then_turn(newest: Path) -> tuple[Path, ...]:
        nonlocal turned
        found = find(newest)
        if newest == path and turned < 3:
            turned += 1
            with monkeypatch.context() as patch:
                patch.setattr(audit_files, "older_files", find)
                for number in range(10 * turned, 10 * turned + 10):
                    log.append(numbered(100 + number))
        return found

    monkeypatch.setattr(audit_files, "older_files", find_then_turn)
    reasons = [record["reason"] for record in read_audit(path)]
    assert turned == 3
    assert "139" in reasons


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (RECORD, "audit.jsonl"),
        (REFUSED, "audit-strangers.jsonl"),
        (replace(REFUSED, event=Event.AUTH, session=""), "audit-strangers.jsonl"),
        (replace(REFUSED, event=Event.RESOURCE, decision=Decision.DENIED), "audit-strangers.jsonl"),
        (replace(RECORD, event=Event.RESOURCE, decision=Decision.DENIED), "audit.jsonl"),
        (replace(REFUSED, event=Event.ADMIN), "audit-strangers.jsonl"),
        (replace(REFUSED, event=Event.ADMIN, administrator="alice"), "audit.jsonl"),
    ],
)
def test_what_anybody_can_cause_has_files_of_its_own(
    tmp_path: Path, record: AuditRecord, name: str
) -> None:
    AuditLog(tmp_path / "audit.jsonl").append(record)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_flood_of_strangers_pushes_out_nobody_but_strangers_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written: list[AuditRecord] = []
    limits = replace(SMALL, stranger_file_bytes=1500, stranger_older_files=2)
    AuditLog(path, limits).append(RECORD)
    for _ in range(60):
        AuditLog(path, limits, written.append).append(REFUSED)
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 8000
    first, *others = read_audit(path)
    assert (first["session"], first["decision"]) == ("label", "accepted")
    assert others[-1]["decision"] == "refused"
    (last,) = [one for one in others if "removed" in one][-1:]
    assert int(str(last["removed"])) == len(written) - len(others)


class Died(BaseException):
    """The process ended here."""


def seen_lines(folder: Path) -> set[bytes]:
    return {line for path in folder.iterdir() for line in path.read_bytes().splitlines()}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 6))
def test_log_counts_what_it_removed_once_wherever_the_process_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, when: str
) -> None:
    path, steps = tmp_path / "audit.jsonl", 0

    def dying(action: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments: object) -> object:
            nonlocal steps
            is_last = counting and (steps := steps + 1) == step
            if is_last and when == "before":
                raise Died
            result = action(*arguments)
            if is_last:
                raise Died
            return result

        return act

    counting = False
    limits = replace(SMALL, audit_file_bytes=600, audit_older_files=1)
    seen: set[bytes] = set()
    for number in range(12):
        AuditLog(path, limits).append(numbered(number))
        seen |= seen_lines(tmp_path)
    for module, name in ((audit_log, "set_aside"), (audit_log, "append_line"), (Path, "unlink")):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    died = 0
    for number in range(12, 60):
        # Several times, and each time in the middle of turning a file over.
        counting, steps = path.stat().st_size > 400 if path.exists() else True, 0
        try:
            AuditLog(path, limits).append(numbered(number))
        except Died:
            died += 1
        seen |= seen_lines(tmp_path)
    assert died > 1
    counting = False
    for number in range(60, 72):
        AuditLog(path, limits).append(numbered(number))
        seen |= seen_lines(tmp_path)
    records = list(read_audit(path))
    (last,) = [record for record in records if "removed" in record][-1:]
    assert int(str(last["removed"])) == len(seen) - len(records)
    assert len(older_files(path)) == 1


def test_records_of_both_chains_are_read_by_their_time(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    wanted = [RECORD, REFUSED, REFUSED, RECORD, REFUSED]
    for record in wanted:
        log.append(record)
    sessions = [record["session"] for record in read_audit(tmp_path / "audit.jsonl")]
    assert sessions == [record.session for record in wanted]


@pytest.mark.parametrize("torn", [b'{"time":', b"x" * (1 << 20)])
def test_record_that_a_crash_cut_off_is_none_and_goes_with_the_next(
    tmp_path: Path, torn: bytes
) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(RECORD)
    with path.open("ab") as file:
        file.write(torn)
    assert [record["session"] for record in read_audit(path)] == ["label"]
    AuditLog(path).append(replace(RECORD, session="next"))
    assert [record["session"] for record in read_audit(path)] == ["label", "next"]


@pytest.mark.parametrize("torn", [None, b"", b'{"time":'])
def test_log_goes_on_after_a_crash_between_two_files(tmp_path: Path, torn: bytes | None) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(RECORD)
    set_aside(path)
    if torn is not None:
        path.write_bytes(torn)
    assert [record["session"] for record in read_audit(path)] == ["label"]
    assert has_records(path)
    AuditLog(path).append(RECORD)
    assert [record["event"] for record in read_audit(path)] == ["attest", "rotation", "attest"]


def test_log_that_cannot_be_looked_at_is_not_an_empty_one(tmp_path: Path) -> None:
    assert not list(read_audit(tmp_path / "audit.jsonl"))
    with pytest.raises(CcinitError) as caught:
        list(read_audit(tmp_path / ("n" * 256) / "audit.jsonl"))
    assert caught.value.reason == "audit.read"


def test_numbers_of_older_files_grow_beyond_six_digits(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(RECORD)
    set_aside(path).rename(tmp_path / "audit-999999.jsonl")
    log = AuditLog(path, replace(SMALL, audit_file_bytes=1))
    for _ in range(2):
        log.append(RECORD)
    assert [one.name for one in older_files(path)] == ["audit-999999.jsonl", "audit-1000000.jsonl"]
    assert len(list(read_audit(path))) == 5


def test_count_goes_on_where_a_head_was_edited(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"edited\n")
    AuditLog(path, replace(SMALL, audit_file_bytes=1)).append(RECORD)
    rotation, _record = map(json.loads, path.read_text().splitlines())
    assert rotation["removed"] == "0"


@pytest.mark.parametrize("name", ["audit.jsonl", "audit-000001.jsonl", "audit-strangers.jsonl"])
@pytest.mark.parametrize("what", ["pipe", "folder", "device"])
def test_what_is_no_file_is_no_log_to_begin_with(tmp_path: Path, name: str, what: str) -> None:
    path, place = tmp_path / "audit.jsonl", tmp_path / name
    match what:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            place.symlink_to("/dev/null")
    for use in (AuditLog, has_records, lambda path: list(read_audit(path))):
        with pytest.raises(ConfigError, match=f"{place} is not a regular file") as caught:
            use(path)
        assert caught.value.reason == "audit.file"
    place.rename(tmp_path / "away")
    AuditLog(path).append(RECORD)
    (tmp_path / "elsewhere").mkdir()
    path.rename(tmp_path / "elsewhere/file")
    path.symlink_to("elsewhere/file")  # on another disk, perhaps
    AuditLog(path).append(RECORD)
    assert len(list(read_audit(path))) == 2
