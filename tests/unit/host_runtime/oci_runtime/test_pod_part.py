"""Which part of a pod a bundle is."""

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.pod_part import (
    CONTAINER_NAME,
    CONTAINER_TYPE,
    SANDBOX_ID,
    PodPart,
    read_pod_part,
)

CONTAINER = {CONTAINER_TYPE: "container", SANDBOX_ID: "s", CONTAINER_NAME: "web"}


def test_part_is_a_sandbox_or_names_its_container() -> None:
    assert read_pod_part({}) is None
    assert read_pod_part({SANDBOX_ID: "s", "other": "x"}) is None
    assert read_pod_part({CONTAINER_TYPE: "sandbox", SANDBOX_ID: "s"}) == PodPart(sandbox="s")
    assert read_pod_part(CONTAINER) == PodPart(sandbox="s", member="web")


@pytest.mark.parametrize(
    "annotations",
    [
        {CONTAINER_TYPE: "sandbox"},
        {CONTAINER_TYPE: "sandbox", SANDBOX_ID: ""},
        {CONTAINER_TYPE: "container", SANDBOX_ID: "s"},
        {CONTAINER_TYPE: "container", CONTAINER_NAME: "web"},
        {**CONTAINER, CONTAINER_NAME: ""},
        {**CONTAINER, CONTAINER_TYPE: "podsandbox"},
        {**CONTAINER, CONTAINER_TYPE: ""},
        {**CONTAINER, "io.kubernetes.cri-o.ContainerType": "container"},
        {"io.kubernetes.cri-o.ContainerType": "sandbox"},
    ],
)
def test_part_that_says_too_little_or_is_anothers_is_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(CcinitError) as error:
        read_pod_part(annotations)
    assert error.value.reason == "bundle.kubernetes"
