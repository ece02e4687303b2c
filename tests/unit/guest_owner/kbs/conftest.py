"""An owner's state directory with nothing registered."""

from pathlib import Path

import pytest

from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "state"
    root.mkdir()
    (root / "policy.toml").write_bytes(EMPTY_POLICY)
    return Store(root)
