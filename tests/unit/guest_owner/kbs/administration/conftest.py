"""An audit log, and an administrator's call that it has."""

from pathlib import Path

import pytest

from guest_owner.kbs.administration.calls import AdminCall
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.state.store import Store


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def call(store: Store, log: Path) -> AdminCall:
    return AdminCall(store, AuditLog(log), "POST /path", "alice")
