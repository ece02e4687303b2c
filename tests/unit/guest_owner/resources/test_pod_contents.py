"""What `policy explain` finds of resources that a guest would refuse only in PULL or START."""

from collections.abc import Mapping

import pytest

from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.formats.pod.resources import (
    MAX_PULL_SECRET_BYTES,
    name_piped_resources,
    name_pull_resources,
)
from ccinit.formats.pod.secret import MAX_FILES_BYTES
from guest_owner.resources.pod_contents import find_unfit_contents
from tests.fakes.documents.guest import FULL_POD

POD = parse_pod_manifest(
    f"""{FULL_POD}
[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/variable"
env = "VARIABLE"
[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/file-large"
file = "/run/large"
[[file]]
container = "main"
path = "/etc/more.conf"
text = "{"t" * 1024}"
"""
)
AUTH, KEY = "kbs:///ccinit/demo/file-auth", "kbs:///ccinit/demo/image-key"
TOKEN, LARGE = "kbs:///ccinit/demo/file-token", "kbs:///ccinit/demo/file-large"
VARIABLE = "kbs:///ccinit/demo/variable"


def find(contents: Mapping[str, bytes]) -> dict[str, str]:
    found = find_unfit_contents(
        POD, {parse_resource_uri(uri): data for uri, data in contents.items()}
    )
    return {str(uri): detail for uri, detail in found}


def test_fit_and_unknown_contents_are_not_told() -> None:
    assert find({}) == {}
    longest = {
        AUTH: b'{"auths":{}}'.ljust(MAX_PULL_SECRET_BYTES),
        KEY: bytes(MAX_PULL_SECRET_BYTES),
    }
    assert find({**longest, TOKEN: b"token", VARIABLE: b"value\n"}) == {}


@pytest.mark.parametrize("content", [b"\xff", b"a\0b", b"x" * (128 << 10)])
def test_content_that_is_no_variable_is_told(content: bytes) -> None:
    assert find({VARIABLE: content}).keys() == {VARIABLE}
    assert find({LARGE: content}) == {}


@pytest.mark.parametrize("uri", [AUTH, KEY])
def test_credentials_that_no_child_can_be_given_are_told(uri: str) -> None:
    assert find({uri: b'{"auths":{}}'.ljust(MAX_PULL_SECRET_BYTES + 1)}) == {
        uri: "expected at most 65536 bytes, found 65537"
    }


@pytest.mark.parametrize("place", ["registry.example:5000", "mirror.example", "elsewhere.example"])
def test_credentials_that_no_child_can_read_are_told(place: str) -> None:
    """Of the places that the image may come from: a guest reads no others."""
    document = f'{{"auths": {{"{place}": {{"auth": "AA=="}}}}}}'.encode()
    told = {} if place.startswith("elsewhere") else {AUTH: "expected user:password"}
    assert find({AUTH: document}) == told


def test_credentials_are_what_only_pulls_need_but_for_policies() -> None:
    policies = {image.policy for image in POD.images}
    assert name_piped_resources(POD) == name_pull_resources(POD) - policies


def test_files_that_are_too_much_for_a_container_together_are_told() -> None:
    given = sum(len(one.text) for one in POD.files if one.container == "main")
    assert given > 1024
    contents = {TOKEN: b"token", LARGE: bytes(MAX_FILES_BYTES - given - len(b"token"))}
    assert find(contents) == {}
    said = "expected at most 1048576 bytes of files in main, found 1048577"
    assert find({**contents, TOKEN: b"token!"}) == {TOKEN: said, LARGE: said}
