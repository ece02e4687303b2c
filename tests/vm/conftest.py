"""What host-side tests of the real image share: the image itself, built once, and a vTPM."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from tests.chain import world
from tests.integration.leftovers import leaving_no_children
from tests.vm.direct_boot import TOOLS, DirectImage, build_image


@pytest.fixture(scope="module", autouse=True)
def _no_child_is_left() -> Iterator[None]:
    with leaving_no_children():
        yield


@pytest.fixture(scope="session")
def prod_image() -> DirectImage:
    return build_image("prod")


@pytest.fixture(scope="session")
def test_image() -> DirectImage:
    return build_image("test")


@pytest.fixture(scope="session")
def pod_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the demo's container image, which each world gives a label of its own."""
    return world.build_image(tmp_path_factory.mktemp("pod-image") / "layout")


@pytest.fixture(scope="session")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> VirtualTpm:
    """A vTPM for guests that boot one after the other; each starts it anew."""
    return manufacture_tpm(TOOLS, tmp_path_factory.mktemp("vtpm") / "state")
