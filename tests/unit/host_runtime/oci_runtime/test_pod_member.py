"""What a container of a pod may be."""

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA
from host_runtime.oci_runtime.pod_member import require_member, require_same_guest
from tests.fakes.documents.guest import POD
from tests.fakes.documents.oci_bundles import INITDATA, make_document

FIRST = """
[[container]]
name = "first"
image = "web"
kind = "init"
"""
DOCUMENT = make_document(POD + FIRST)


@pytest.mark.parametrize("name", ["none", "first", "", "web\n", "WEB", "shop"])
def test_only_a_main_container_of_the_document_can_be_stood_for(name: str) -> None:
    require_member("web", DOCUMENT)
    with pytest.raises(CcinitError) as error:
        require_member(name, DOCUMENT)
    assert error.value.reason == "sandbox.container"


def test_document_that_is_none_stands_for_nothing() -> None:
    with pytest.raises(CcinitError) as error:
        require_member("web", DOCUMENT.replace(b"[data]", b"[date]"))
    assert error.value.reason.startswith("initdata.")


@pytest.mark.parametrize("key", [INITDATA, COCO_INITDATA, "org.ccinit.image", "org.ccinit.new"])
def test_container_wishes_no_other_guest_than_its_sandbox(key: str) -> None:
    sandbox = {key: "a", "other": "b"}
    for same in ({}, {key: "a"}, {"other": "c"}, {"new": "d"}):
        require_same_guest(same, sandbox)
    for wish, of_sandbox in (({key: "b"}, sandbox), ({key: "a"}, {}), ({key: ""}, {})):
        with pytest.raises(CcinitError) as error:
            require_same_guest(wish, of_sandbox)
        assert error.value.reason == "sandbox.annotation"
