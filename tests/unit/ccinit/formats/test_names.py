"""Digests and resource names: one spelling each."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.digest import parse_digest, sha256_digest
from ccinit.formats.resource_uri import ResourceUri, parse_resource_uri

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_digest_of_nothing_is_the_known_one() -> None:
    assert str(sha256_digest(b"")) == EMPTY
    assert parse_digest(EMPTY) == sha256_digest(b"")
    assert len(parse_digest(EMPTY).raw) == 32


@pytest.mark.parametrize(
    "text",
    [
        EMPTY.upper(),
        EMPTY.replace("sha256", "sha512"),
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.replace("e3", "E3"),
        "sha256:../../../../../../../../etc/passwd",
        "",
        EMPTY + "\n",
    ],
)
def test_digest_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_digest(text)
    assert caught.value.reason == "digest.form"


def test_resource_uri_comes_back_as_it_was() -> None:
    uri = parse_resource_uri("kbs:///ccinit/demo/volume-key-data")
    assert uri == ResourceUri("ccinit", "demo", "volume-key-data")
    assert str(uri) == "kbs:///ccinit/demo/volume-key-data"
    assert uri.path == "ccinit/demo/volume-key-data"


@pytest.mark.parametrize(
    "text",
    [
        "kbs://host/a/b/c",
        "kbs:///a/b",
        "kbs:///a/b/c/d",
        "kbs:///a//c",
        "kbs:///a/../c",
        "kbs:///a/.b/c",
        "kbs:///a/b/c?x=1",
        "kbs:///a/b/%2e",
        "kbs+plugin:///a/b/c",
        "kbs:///a/b/" + "c" * 129,
    ],
)
def test_resource_uri_other_form_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_resource_uri(text)
    assert caught.value.reason == "uri.form"
