"""A registry and keys for the tests of images."""

from collections.abc import Iterator

import pytest

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


@pytest.fixture(scope="module")
def recipients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipient]:
    return make_recipients(tmp_path_factory.mktemp("recipients"))
