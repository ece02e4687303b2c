"""Names of what a KBS has: one spelling each, and no way out of their path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError
from ccinit.formats.kbs.resource_uri import (
    PluginUri,
    ResourceUri,
    parse_kbs_uri,
    parse_resource_uri,
)


def test_resource_uri_comes_back_as_it_was() -> None:
    uri = parse_resource_uri("kbs:///ccinit/demo/volume-key-data")
    assert uri == ResourceUri("ccinit", "demo", "volume-key-data")
    assert str(uri) == "kbs:///ccinit/demo/volume-key-data"
    assert uri.path == "ccinit/demo/volume-key-data"


@pytest.mark.parametrize(
    "text",
    [
        "a/b/c",
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kbs+nebula-ca:///credential?name=pod1&ip=10.1.2.3/24",
         PluginUri("nebula-ca", "credential", "name=pod1&ip=10.1.2.3/24")),
        ("kbs+provisioner:///default/0b1c/root", PluginUri("provisioner", "default/0b1c/root", "")),
        ("kbs+external:///backend/a.b?x=", PluginUri("external", "backend/a.b", "x=")),
        ("kbs:///a/b/c", ResourceUri("a", "b", "c")),
    ],
)  # fmt: skip
def test_kbs_uri_comes_back_as_it_was(text: str, expected: object) -> None:
    uri = parse_kbs_uri(text)
    assert uri == expected
    assert str(uri) == text
    plugin = "resource" if isinstance(uri, ResourceUri) else uri.plugin
    assert uri.request_path == plugin + "/" + text.partition(":///")[2]


@pytest.mark.parametrize(
    "text",
    [
        "kbs+:///a",
        "kbs+Nebula:///a",
        "kbs+a_b:///a",
        "kbs+" + "a" * 33 + ":///a",
        "kbs+resource:///a/b/c",
        "kbs+auth:///a",
        "kbs+attest:///a",
        "kbs+resource-policy:///a",
        "kbs+a/b:///a",
        "kbs+a://host/a",
        "kbs+a:///",
        "kbs+a:///b//c",
        "kbs+a:///b/../c",
        "kbs+a:///.b",
        "kbs+a:///b%2fc",
        "kbs+a:///" + "b/" * 8 + "b",
        "kbs+a:///b?",
        "kbs+a:///b?x",
        "kbs+a:///b?=y",
        "kbs+a:///b?x=1&x=2",
        "kbs+a:///b?x=1&&y=2",
        "kbs+a:///b?x=1 2",
        "kbs+a:///b?x=%41",
        "kbs+a:///b?x=1#y",
        "kbs+a:///b?x=1?y=2",
        "kbs+a:///b?x=" + "1" * 512,
        "kbs+a:///b c",
        "kbs+a:///b\r\nx",
        "kbs:///a/b/c?x=1",
    ],
)
def test_kbs_uri_other_form_is_refused(text: str) -> None:
    parse_kbs_uri("kbs+a:///b?x=1")
    with pytest.raises(FormatError) as caught:
        parse_kbs_uri(text, "secret.uri")
    assert caught.value.reason == "secret.uri"


@given(st.text(alphabet="ab-_.:/?=&+%#~, \r\n\0é", max_size=40))
def test_kbs_uri_has_one_spelling_and_no_way_out_of_its_path(rest: str) -> None:
    for text in (f"kbs:///{rest}", f"kbs+{rest}", f"kbs+a:///{rest}"):
        try:
            uri = parse_kbs_uri(text)
        except FormatError:
            continue
        assert str(uri) == text
        path = uri.request_path.partition("?")[0].split("/")
        assert all(segment and not segment.startswith(".") for segment in path)
        assert not set(uri.request_path) & set("%# \r\n\0é")
