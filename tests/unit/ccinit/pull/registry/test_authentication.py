from urllib.parse import parse_qsl

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.oci.credentials import Credential
from ccinit.formats.oci.reference import ImageReference, parse_image_reference
from ccinit.pull.registry.authentication import (
    BasicChallenge,
    BearerChallenge,
    Challenge,
    parse_token,
    select_challenge,
    token_request,
)


def reference(host: str = "registry-1.docker.example") -> ImageReference:
    return parse_image_reference(f"{host}/team/app@sha256:{'a' * 64}")


def parse_challenge(header: str) -> Challenge:
    return select_challenge([header])


def parse_bearer(header: str) -> BearerChallenge:
    challenge = parse_challenge(header)
    assert isinstance(challenge, BearerChallenge)
    return challenge


def test_challenge_of_either_scheme_is_read() -> None:
    bearer = parse_challenge(
        'Bearer realm="https://auth.docker.example/token",service="s, t",scope="repository:x:pull"'
    )
    assert bearer == BearerChallenge(realm="https://auth.docker.example/token", service="s, t")
    assert parse_challenge('basic realm="x"') == BasicChallenge()
    short = BearerChallenge(realm="https://a.example/", service="x")
    assert parse_challenge("Bearer realm=https://a.example/,service=x") == short
    assert parse_challenge('Bearer realm = "https://a.example/" service="x"') == short


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Negotiate abc",
        "Bearer",
        "Bearer service=x",
        'Bearer realm="https://x',
        'Bearer realm="a",realm="b"',
        "Bearer realm",
        'Bearer realm=""',
        'Bearer ="x"',
        'realm="https://auth.docker.example/token"',
        'Basic realm="x", Bearer service="y"',
    ],
)
def test_challenge_that_says_nothing_usable_is_refused(header: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_challenge(header)
    assert refused.value.reason == "registry.challenge"


def test_challenge_has_a_cap() -> None:
    header = 'Bearer realm="https://auth.docker.example/token",service="'
    longest = header + "x" * (4096 - len(header) - 1) + '"'
    assert parse_challenge(longest)
    with pytest.raises(CcinitError) as refused:
        parse_challenge(longest + " ")
    assert refused.value.reason == "registry.challenge"


def test_token_is_chosen_before_a_password_and_what_is_unknown_passed_over() -> None:
    basic, bearer = 'Basic realm="x"', 'BEARER realm="https://auth.docker.example/token"'
    assert select_challenge(["Negotiate", basic]) == BasicChallenge()
    token = BearerChallenge(realm="https://auth.docker.example/token", service="")
    assert select_challenge(["Negotiate", basic, bearer]) == token
    for headers, offered in (((), "''"), (("Negotiate x", "NTLM"), "'Negotiate, NTLM'")):
        with pytest.raises(CcinitError) as refused:
            select_challenge(headers)
        assert refused.value.reason == "registry.challenge"
        assert offered in refused.value.detail


@pytest.mark.parametrize("first", ["", "Negotiate, ", "Negotiate abc==, ", 'Digest realm="a, b", '])
def test_one_header_may_hold_several_challenges(first: str) -> None:
    """As RFC 9110 has it, and proxies make of two headers."""
    bearer = 'Bearer realm="https://auth.docker.example/token",service="s"'
    token = BearerChallenge(realm="https://auth.docker.example/token", service="s")
    for text in (bearer, f'{bearer}, Basic realm="x"', f'Basic realm="x", {bearer}'):
        assert parse_challenge(first + text) == token
    assert parse_challenge(first + 'Basic realm="Bearer x"') == BasicChallenge()
    assert parse_challenge(first + "Basic") == BasicChallenge()
    assert parse_challenge(f"{first}Basic, NTLM") == BasicChallenge()


@pytest.mark.parametrize(
    ("host", "realm", "url"),
    [
        (
            "registry-1.docker.example",
            "https://auth.docker.example/token",
            "https://auth.docker.example/token",
        ),
        (
            "team-docker.host.example",
            "https://team.host.example:443/v2/token",
            "https://team.host.example:443/v2/token",
        ),
        ("ghcr.example:5000", "https://ghcr.example:5001/t", "https://ghcr.example:5001/t"),
        ("127.0.0.1", "https://127.0.0.1", "https://127.0.0.1/"),
    ],
)
def test_token_is_asked_for_beside_the_registry(host: str, realm: str, url: str) -> None:
    challenge = parse_bearer(f'Bearer realm="{realm}",service="s&t",scope="repository:other:push"')
    expected = f"{url}?service=s%26t&scope=repository%3Ateam%2Fapp%3Apull"
    request = token_request(challenge, reference(host), None)
    assert (request.method, request.url, request.headers) == ("GET", expected, ())


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("registry.example", "https://auth.example/token"),  # `example` is no domain of its own
        ("registry-1.docker.example", "https://docker.example.evil.test/token"),
        ("registry-1.docker.example", "https://evildocker.example/token"),
        ("registry-1.docker.example", "http://auth.docker.example/token"),
        ("registry-1.docker.example", "https://user@auth.docker.example/token"),
        ("registry-1.docker.example", "https://auth.docker.example:8443/token"),
        ("registry-1.docker.example", "https://auth.docker.example/token?redirect=evil"),
        ("registry-1.docker.example", "https://auth.docker.example/token#evil"),
        ("registry-1.docker.example", "https://auth.docker.example:x/token"),
        ("registry-1.docker.example", "https://[]/token"),
        ("registry-1.docker.example", "file:///etc/passwd"),
        ("10.0.0.1", "https://169.254.169.254/latest"),
        ("10.0.0.1", "https://11.0.0.1/"),
    ],
)
def test_token_service_elsewhere_is_refused(host: str, realm: str) -> None:
    with pytest.raises(CcinitError) as refused:
        token_request(parse_bearer(f'Bearer realm="{realm}"'), reference(host), None)
    assert refused.value.reason == "registry.realm"


def test_service_that_has_no_name_is_not_named() -> None:
    challenge = parse_bearer('Bearer realm="https://auth.docker.example/t"')
    request = token_request(challenge, reference("registry-1.docker.example"), None)
    assert request.url == "https://auth.docker.example/t?scope=repository%3Ateam%2Fapp%3Apull"


def test_password_goes_with_the_request_and_identity_token_in_its_body() -> None:
    challenge = parse_bearer('Bearer realm="https://auth.docker.example/t",service="s"')
    place = reference("registry-1.docker.example")
    password = token_request(challenge, place, Credential(user_password="me:secret"))
    assert password.headers == (("authorization", "Basic bWU6c2VjcmV0"),)
    assert (password.method, password.body) == ("GET", b"")
    known = Credential(user_password="", identity_token="i&d")
    identity = token_request(challenge, place, known)
    assert (identity.method, identity.url) == ("POST", "https://auth.docker.example/t")
    assert identity.headers == (("content-type", "application/x-www-form-urlencoded"),)
    assert dict(parse_qsl(identity.body.decode())) == {
        "grant_type": "refresh_token",
        "refresh_token": "i&d",
        "client_id": "ccinit",
        "service": "s",
        "scope": "repository:team/app:pull",
    }
    for request in (password, identity):
        assert "secret" not in repr(request)
        assert "i&d" not in repr(request)


def test_token_of_either_name_is_taken() -> None:
    assert parse_token(b'{"token":"abc","expires_in":60}') == "Bearer abc"
    assert parse_token(b'{"access_token":"abc"}') == "Bearer abc"


def test_token_has_a_cap() -> None:
    longest = "x" * (64 << 10)
    assert parse_token(b'{"token":"%b"}' % longest.encode()) == f"Bearer {longest}"
    with pytest.raises(CcinitError) as refused:
        parse_token(b'{"token":"%b"}' % (longest + "x").encode())
    assert refused.value.reason == "token.form"


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b'{"token":7}',
        b'{"token":""}',
        b'{"token":"a b"}',
        b'{"token":"a\\r\\nb"}',
        '{"token":"é"}'.encode(),
    ],
)
def test_token_reply_without_a_token_is_refused(data: bytes) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_token(data)
    assert refused.value.reason == "token.form"
