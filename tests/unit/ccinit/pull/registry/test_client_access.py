"""Who learns a credential: challenges, tokens and redirects."""

import pytest

from ccinit.errors import PeerError
from ccinit.formats.oci.credentials import Credential
from ccinit.pull.registry.client import Registry
from ccinit.values import replace
from tests.fakes.images.registry import FAST, reply
from tests.unit.ccinit.pull.registry.client_harness import (
    BLOB,
    HOST,
    LAYER,
    REFERENCE,
    Blob,
    Harness,
)


def test_identity_token_is_exchanged_and_never_sent_to_the_registry() -> None:
    harness = Harness()
    known = Credential(user_password="", identity_token="identity")
    harness.registry = Registry(harness.http, REFERENCE, known, FAST, harness.waits)
    realm = 'Bearer realm="https://auth.docker.example/token"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    harness.http.script("/token", reply(200, b'{"access_token":"t"}'))
    assert harness.download() == BLOB
    assert harness.authorizations() == [None, None, "Bearer t"]
    assert b"refresh_token=identity" in harness.http.bodies[0]
    harness.http.script(str(LAYER), *[reply(401, www_authenticate="Basic")])
    harness.blob = Blob()
    assert harness.refusal(harness.download) == "registry.unauthorized"


def test_basic_challenge_gets_the_password_once() -> None:
    harness = Harness("me:secret")
    challenge = reply(401, www_authenticate='Basic realm="x"')
    harness.http.script(str(LAYER), challenge)
    assert harness.download() == BLOB
    harness.registry.manifest(REFERENCE.digest)
    first, *rest = harness.authorizations()
    assert first is None
    assert rest == ["Basic bWU6c2VjcmV0"] * 2
    wrong = Harness("me:wrong")
    wrong.http.script(str(LAYER), challenge, challenge)
    assert wrong.refusal(wrong.download) == "registry.unauthorized"


@pytest.mark.parametrize(
    ("credential", "known"), [("", "no credential"), ("a:b", "the credential")]
)
def test_refused_access_tells_whether_a_credential_was_known(credential: str, known: str) -> None:
    harness = Harness(credential)
    harness.http.script(str(LAYER), reply(403))
    with pytest.raises(PeerError) as refused:
        harness.download()
    assert refused.value.reason == "registry.unauthorized"
    assert refused.value.detail.endswith(f"/team/app: status 403 to {known}")


def test_basic_challenge_without_a_password_is_refused() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), reply(401, www_authenticate="Basic"))
    assert harness.refusal(harness.download) == "registry.unauthorized"


@pytest.mark.parametrize("credential", ["", "me:secret"])
def test_bearer_challenge_is_answered_with_a_token(credential: str) -> None:
    harness = Harness(credential)
    realm = 'Bearer realm="https://auth.docker.example/token",service="s"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    harness.http.script("/token", reply(200, b'{"token":"t"}'))
    assert harness.download() == BLOB
    _first, token, last = harness.authorizations()
    assert token == ("Basic bWU6c2VjcmV0" if credential else None)
    assert last == "Bearer t"


def test_registry_that_offers_several_schemes_gets_one_that_is_known() -> None:
    harness = Harness("me:secret")
    offered = [("www-authenticate", text) for text in ("Negotiate", 'Basic realm="x"')]
    harness.http.script(str(LAYER), replace(reply(401), headers=tuple(offered)))
    assert harness.download() == BLOB
    assert harness.authorizations() == [None, "Basic bWU6c2VjcmV0"]


@pytest.mark.parametrize(
    ("offered", "sent"),
    [
        ('Bearer realm="https://auth.docker.example/token"', "Bearer t"),
        ('Basic realm="x"', "Basic bWU6c2VjcmV0"),
    ],
)
def test_challenge_may_stand_at_the_root_of_the_api(offered: str, sent: str) -> None:
    harness = Harness("me:secret")
    harness.http.script(str(LAYER), reply(401))
    harness.http.script("/v2/", reply(401, www_authenticate=offered))
    harness.http.script("/token", reply(200, b'{"token":"t"}'))
    assert harness.download() == BLOB
    urls, authorizations = [url for url, _headers in harness.http.seen], harness.authorizations()
    assert urls[1] == f"https://{HOST}/v2/"
    assert (authorizations[1], authorizations[-1]) == (None, sent)


def test_root_of_the_api_is_not_asked_where_the_registry_says_it_at_once() -> None:
    harness = Harness("me:secret")
    harness.http.script(str(LAYER), reply(401, www_authenticate="Basic"))
    assert harness.download() == BLOB
    assert not any(url.endswith("/v2/") for url, _headers in harness.http.seen)


def test_registry_that_says_nowhere_how_to_authenticate_is_refused() -> None:
    harness = Harness("me:secret")
    harness.http.script(str(LAYER), reply(401))
    harness.http.script("/v2/", reply(200))
    assert harness.refusal(harness.download) == "registry.challenge"
    assert harness.authorizations() == [None, None]


def test_token_service_that_the_root_of_the_api_names_elsewhere_learns_no_password() -> None:
    harness = Harness("me:secret")
    harness.http.script(str(LAYER), reply(401))
    realm = 'Bearer realm="https://evil.test/token"'
    harness.http.script("/v2/", reply(401, www_authenticate=realm))
    assert harness.refusal(harness.download) == "registry.realm"
    assert harness.authorizations() == [None, None]


def test_root_of_the_api_that_is_busy_is_asked_again() -> None:
    harness = Harness("me:secret")
    harness.http.script(str(LAYER), *[reply(401)] * 2)
    offered = reply(401, www_authenticate="Basic")
    harness.http.script("/v2/", reply(503, retry_after="5"), offered)
    assert harness.download() == BLOB
    assert harness.waits == [5.0]


def test_token_service_that_refuses_ends_the_pull() -> None:
    harness = Harness()
    realm = 'Bearer realm="https://auth.docker.example/token"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    harness.http.script("/token", reply(403))
    assert harness.refusal(harness.download) == "registry.token"


def test_token_service_that_is_busy_is_asked_again() -> None:
    harness = Harness()
    challenge = reply(401, www_authenticate='Bearer realm="https://auth.docker.example/token"')
    harness.http.script(str(LAYER), challenge, challenge)
    harness.http.script("/token", reply(503, retry_after="5"), reply(200, b'{"token":"t"}'))
    assert harness.download() == BLOB
    assert harness.waits == [5.0]
    assert harness.authorizations()[-1] == "Bearer t"
    harness = Harness()
    harness.http.script(str(LAYER), *[challenge] * 3)
    harness.http.script("/token", *[reply(429)] * 3)
    assert harness.refusal(harness.download) == "registry.busy"


def test_token_service_elsewhere_learns_no_password() -> None:
    harness = Harness("me:secret")
    realm = 'Bearer realm="https://evil.test/token"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    assert harness.refusal(harness.download) == "registry.realm"
    assert len(harness.http.seen) == 1


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://cdn.example", None),
        (f"https://{HOST}:8443", None),
        (f"https://{HOST}", "Basic bWU6c2VjcmV0"),
        (f"https://{HOST}:443", "Basic bWU6c2VjcmV0"),
    ],
)
def test_redirect_leaves_the_authorization_to_its_origin(origin: str, sent: str | None) -> None:
    harness = Harness("me:secret")
    harness.http.script(
        str(LAYER),
        reply(401, www_authenticate="Basic"),
        reply(307, location=f"{origin}/x/{LAYER}"),
    )
    assert harness.download() == BLOB
    assert harness.authorizations() == [None, "Basic bWU6c2VjcmV0", sent]
    assert harness.http.seen[-1][0] == f"{origin}/x/{LAYER}"


def test_challenge_of_another_origin_is_not_answered() -> None:
    harness = Harness("me:secret")
    harness.http.script(
        str(LAYER),
        reply(307, location="https://cdn.example/x/" + str(LAYER)),
        reply(401, www_authenticate="Basic"),
    )
    assert harness.refusal(harness.download) == "registry.unauthorized"
    assert harness.authorizations() == [None, None]


@pytest.mark.parametrize("location", ["http://cdn.example/x", "https://127.0.0.1/x", ""])
def test_redirect_to_where_no_registry_is_gets_refused(location: str) -> None:
    harness = Harness()
    harness.http.script(str(LAYER), reply(307, location=location))
    assert harness.refusal(harness.download) == "registry.redirect"
    assert len(harness.http.seen) == 1
    assert Harness().download() == BLOB


def test_redirects_without_an_end_are_refused() -> None:
    harness = Harness()
    step = reply(302, location=f"/v2/team/app/blobs/{LAYER}")
    harness.http.script(str(LAYER), *[step] * 4)
    assert harness.refusal(harness.download) == "registry.redirects"
    harness.http.script(str(LAYER), *[step] * 3)
    assert harness.download() == BLOB
