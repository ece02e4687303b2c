"""Making an administrator, and tokens that the KBS accepts."""

import time
from pathlib import Path

import pytest

from guest_owner.kbs.administration.administrators import read_administrators
from guest_owner.kbs.administration.token import verify_admin_token
from guest_owner.kbs.audit.log import AUDIT_NAME, AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from tests.unit.guest_owner.command_line import error_of, run, status_of_wrong_usage


def test_new_key_then_token_is_accepted(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "admin.pem"
    assert read_administrators(state) == ()
    assert run("admin", "new-key", "--state", state, key, "--name", "alice") == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (state / "admin-keys/alice.pem").read_bytes()
    capsys.readouterr()
    assert run("admin", "token", key, "--seconds", 60) == 0
    token = capsys.readouterr().out.strip()
    keys = read_administrators(state)
    assert verify_admin_token(token, keys, now=time.time()) == "alice"


def test_new_key_replaces_nothing(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("admin", "new-key", "--state", state, tmp_path / "a") == 0
    before = (tmp_path / "a").read_bytes(), (state / "admin-keys/admin.pem").read_bytes()
    assert run("admin", "new-key", "--state", state, tmp_path / "b") == 1
    assert "[admin.exists]" in error_of(capsys)
    assert not (tmp_path / "b").exists()
    assert run("admin", "new-key", "--state", state, tmp_path / "a", "--name", "bob") == 1
    assert "[admin.file]" in error_of(capsys)
    words = ("admin", "new-key", "--state", state, tmp_path / "b", "--name", "Bob")
    assert status_of_wrong_usage(*words) == 2
    assert "[admin.name]" in error_of(capsys)
    assert not (tmp_path / "b").exists()
    assert before == ((tmp_path / "a").read_bytes(), (state / "admin-keys/admin.pem").read_bytes())
    assert [key.name for key in read_administrators(state)] == ["admin"]


def test_name_that_the_audit_log_knows_is_not_given_again(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = AuditLog(state / AUDIT_NAME)
    for name in ("alice", "bob"):
        assert run("admin", "new-key", "--state", state, tmp_path / name, "--name", name) == 0
    log.append(
        AuditRecord(
            event=Event.ADMIN,
            session="",
            tee="",
            decision=Decision.RELEASED,
            request="GET reference-value",
            administrator="bob",
        )
    )
    for name in ("alice", "bob"):
        (state / f"admin-keys/{name}.pem").unlink()
    assert run("admin", "new-key", "--state", state, tmp_path / "b", "--name", "alice") == 0
    capsys.readouterr()
    assert run("admin", "new-key", "--state", state, tmp_path / "c", "--name", "bob") == 1
    assert "[admin.used]" in error_of(capsys)
    assert not (tmp_path / "c").exists()
    assert [key.name for key in read_administrators(state)] == ["alice"]


def test_token_wants_an_ed25519_key(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("admin", "token", state / "ca-key.pem") == 1
    assert "[admin.key]" in error_of(capsys)
    assert run("admin", "token", state / "ca.pem") == 1
    assert "[admin.key]" in error_of(capsys)
    assert run("admin", "new-key", "--state", state, tmp_path / "a") == 0
    assert run("admin", "token", tmp_path / "a") == 0
