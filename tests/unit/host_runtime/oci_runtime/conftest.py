"""Fixtures shared by the tests of the OCI runtime."""

from pathlib import Path

import pytest

from host_runtime.oci_runtime.container_store import ContainerStore


@pytest.fixture
def store(tmp_path: Path) -> ContainerStore:
    return ContainerStore(root=tmp_path / "state")
