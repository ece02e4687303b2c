"""A file leaves the audit log for good, and only by a record of exactly what it holds."""

import json
from pathlib import Path

import pytest

from guest_owner.kbs.audit import log as audit_log
from guest_owner.kbs.audit.files import (
    count_records,
    older_files,
    removal,
    remove_older,
    set_aside,
)
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.limits import Limits
from tests.fakes.machine.disk_log import log_disk
from tests.unit.guest_owner.kbs.audit_records import RECORD

LIMITS = Limits(audit_file_bytes=600, audit_older_files=1)


class Died(BaseException):
    """The process ended here."""


def append_until_it_dies(path: Path) -> None:
    for _ in range(100):
        AuditLog(path, LIMITS).append(RECORD)


@pytest.mark.parametrize("change", [b"", b"{}\n"])
def test_file_that_changed_after_its_removal_was_recorded_goes_with_a_record_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    path = tmp_path / "audit.jsonl"

    def die(_path: Path) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(audit_log, "remove_older", die)
        with pytest.raises(Died):
            append_until_it_dies(path)
    oldest = older_files(path)[0]
    oldest.write_bytes(oldest.read_bytes() + change)
    told = removal(oldest, count_records(oldest))
    while oldest.exists():
        AuditLog(path, LIMITS).append(RECORD)
    reasons = {json.loads(line)["reason"] for line in path.read_bytes().splitlines()}
    assert (told in reasons) is bool(change)


def test_files_are_set_aside_and_removed_even_if_power_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"{}\n")
    done = log_disk(monkeypatch)
    remove_older(set_aside(path))
    assert done == ["place", "flush folder", "remove", "flush folder"]
