"""Registries and keys for the tests of images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hostile_registry import serve_hostile
from tests.integration.hostile_harness import IMAGE, Harness
from tests.integration.recipients import Recipient, make_recipients
from tests.integration.registry_fixture import (
    Authority,
    Registry,
    make_authority,
    running_registry,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), authority) as running:
        yield running


@pytest.fixture
def hostile(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    """A registry that the test makes hostile, and a guest that is soon to ask again."""
    monkeypatch.setattr("ccinit.pull.registry._FIRST_WAIT_SECONDS", 0.01)
    with serve_hostile(IMAGE, authority.server_context()) as registry:
        yield Harness(registry, authority, tmp_path)


@pytest.fixture(scope="module")
def recipients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipient]:
    return make_recipients(tmp_path_factory.mktemp("recipients"))
