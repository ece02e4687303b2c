"""Which credential of the owner's document belongs to which image."""

import base64
import json

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.oci.credentials import Credential, find_credential
from ccinit.formats.oci.reference import ImageReference, parse_image_reference


def reference(host: str = "registry-1.docker.example") -> ImageReference:
    return parse_image_reference(f"{host}/team/app@sha256:{'a' * 64}")


def document(**entries: str) -> bytes:
    auths = {
        name: {"auth": base64.b64encode(text.encode()).decode()} for name, text in entries.items()
    }
    return json.dumps({"auths": auths}).encode()


def test_credential_of_the_longest_prefix_is_found() -> None:
    host = "registry-1.docker.example"
    names = {host: "a:1", f"{host}/team": "b:2", f"{host}/team/app2": "c:3"}
    found = find_credential(document(**names), reference())
    assert found is not None
    assert found.authorization() == "Basic " + base64.b64encode(b"b:2").decode()
    assert "b:2" not in repr(found)


def test_credential_of_another_registry_is_not_taken() -> None:
    assert find_credential(document(**{"docker.example": "a:1"}), reference()) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "auth.json"),
        (b"[]", "auth.form"),
        (b"{}", "auth.form"),
        (b'{"auths":[]}', "auth.form"),
        (b'{"auths":{"registry-1.docker.example":{"auth":7}}}', "auth.base64"),
        (b'{"auths":{"registry-1.docker.example":[]}}', "auth.form"),
        (b'{"auths":{"registry-1.docker.example":{"auth":"***"}}}', "auth.base64"),
        (b'{"auths":{"registry-1.docker.example":{"auth":"Yjr/"}}}', "auth.form"),  # b:, 0xFF
        (document(**{"registry-1.docker.example": "nocolon"}), "auth.form"),
        (document(**{"registry-1.docker.example": "a\r\nX: y:b"}), "auth.form"),
        (document(**{"registry-1.docker.example": "a:b\0c"}), "auth.form"),
    ],
)
def test_credential_document_that_is_malformed_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        find_credential(data, reference())
    assert refused.value.reason == reason


def test_password_may_be_a_file_of_several_lines() -> None:
    """As Google's registries have it; no line of it can become a header's."""
    key = json.dumps({"type": "service_account", "private_key": "-----BEGIN\n"}, indent=2)
    found = find_credential(
        document(**{"registry-1.docker.example": f"_json_key:{key}\r\n"}), reference()
    )
    assert found is not None
    scheme, encoded = found.authorization().split(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", f"_json_key:{key}\r\n")
    assert encoded.isprintable()


def test_identity_token_comes_before_a_password() -> None:
    entry = {"auth": base64.b64encode(b"user:").decode(), "identitytoken": "token"}
    document = json.dumps({"auths": {"r.example": entry}}).encode()
    found = find_credential(document, reference("r.example"))
    assert found == Credential(user_password="", identity_token="token")
    for wrong in ({"identitytoken": 7}, {"identitytoken": "\u00e9"}):
        document = json.dumps({"auths": {"r.example": wrong}}).encode()
        with pytest.raises(CcinitError) as refused:
            find_credential(document, reference("r.example"))
        assert refused.value.reason == "auth.identitytoken"


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("quay.example", "https://quay.example"),
        ("quay.example", "https://quay.example/v1/"),
        ("quay.example", "http://quay.example/v2/"),
        ("quay.example:5000", "https://quay.example:5000"),
    ],
)
def test_key_that_is_a_url_is_the_registrys(host: str, key: str) -> None:
    entries = {key: "a:1", f"other.{host}": "b:2", f"https://{host}.evil.test": "c:3"}
    assert find_credential(document(**entries), reference(host)) == Credential(user_password="a:1")
    assert find_credential(document(**entries), reference("example.test")) is None
    entries = {key: "a:1", f"{host}/team": "d:4"}  # a name comes before any URL
    assert find_credential(document(**entries), reference(host)) == Credential(user_password="d:4")


@pytest.mark.parametrize("entry", [{}, {"auth": ""}, {"email": "me@mail.example"}])
def test_entry_without_a_credential_is_none(entry: dict[str, str]) -> None:
    document = json.dumps({"auths": {"r.example": entry}}).encode()
    assert find_credential(document, reference("r.example")) is None


@pytest.mark.parametrize(
    "key",
    [
        "docker.io/team/app",
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io",
        "https://docker.io",
    ],
)
def test_docker_hub_is_known_by_its_names(key: str) -> None:
    entry = {"auth": base64.b64encode(b"me:secret").decode()}
    document = json.dumps({"auths": {key: entry}}).encode()
    found = find_credential(document, reference("registry-1.docker.io"))
    assert found == Credential(user_password="me:secret")
    assert find_credential(document, reference("registry.example")) is None
