"""A registry that hides signatures (R61), or sends the owner's password elsewhere (R71)."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.images import signatures as fake
from tests.fakes.images.hostile_registry import Fault, serve_hostile
from tests.fakes.images.registry import (
    REPOSITORY,
    FakeImage,
    digest_of,
)
from tests.integration.pull.hostile_harness import (
    IMAGE,
    LAYER,
    Harness,
)
from tests.integration.pull.real_registry import Authority
from tests.integration.pull.signers import policy_json

KEY = ec.generate_private_key(ec.SECP256R1())
POLICY = policy_json(
    {
        "type": "sigstoreSigned",
        "keyData": fake.b64(fake.public_pem(KEY)),
        "signedIdentity": {"type": "matchRepository"},
    }
)
TAG = fake.signature_tag(IMAGE.digest)
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def sign(hostile: Harness, digest: str = IMAGE.digest) -> fake.Attachment:
    """Keep a good signature where the guest looks for it."""
    name = f"localhost:{hostile.registry.port}/{REPOSITORY}"
    signed = fake.classic(fake.classic_layer(fake.payload_of(digest, name), KEY))
    hostile.registry.documents[TAG] = (signed.manifest, MANIFEST_TYPE)
    blobs = {digest_of(blob): blob for blob in signed.blobs}
    hostile.registry.image = FakeImage(
        IMAGE.manifest, IMAGE.config, {**hostile.registry.image.blobs, **blobs}
    )
    return signed


def test_r61_signature_that_a_registry_hides_or_swaps(hostile: Harness) -> None:
    assert hostile.pull(policy=POLICY) == "signature.none"
    sign(hostile, digest="sha256:" + "5" * 64)
    assert hostile.pull(policy=POLICY) == "signature.digest"
    signed = sign(hostile)
    assert hostile.pull(policy=POLICY) is None
    # Layers are not asked for before the policy has accepted the image.
    hostile.registry.requests.clear()
    hostile.registry.faults[TAG] = Fault(status=404)
    assert hostile.pull(policy=POLICY) == "signature.none"
    assert not any("/blobs/" in path for path, _headers in hostile.registry.requests)
    hostile.registry.faults = {TAG: Fault(body=signed.manifest[:-1])}
    assert hostile.pull(policy=POLICY) == "signature.manifest.json"
    hostile.registry.faults = {digest_of(signed.blobs[0]): Fault(body=signed.blobs[0] + b" ")}
    assert hostile.pull(policy=POLICY) == "pull.blob_size"
    hostile.registry.faults = {TAG: Fault(status=403)}
    assert hostile.pull(policy=POLICY) == "registry.unauthorized"
    hostile.registry.faults = {TAG: Fault(body=b" " * 65_536, endless=True)}
    assert hostile.pull(policy=POLICY) == "pull.blob_size"


@pytest.mark.parametrize("status", [303, 400, 405, 406])
def test_signature_is_found_where_a_registry_without_lists_has_its_own_word_for_it(
    hostile: Harness, status: int
) -> None:
    sign(hostile)
    fault = redirect("https://web.example/pages/for/people", status)
    hostile.registry.faults[f"/referrers/{IMAGE.digest}"] = fault
    assert hostile.pull(policy=POLICY) is None
    hostile.registry.faults[f"/referrers/{IMAGE.digest}"] = Fault(status=403)
    assert hostile.pull(policy=POLICY) == "registry.unauthorized"


def test_signature_counts_whatever_else_is_attached_to_the_image(hostile: Harness) -> None:
    sign(hostile)
    annotations = fake.annotations_of("https://spdx.dev/Document/v2.3")
    attested = fake.bundle_artifact(IMAGE.manifest, bytes(600_000), annotations=annotations)
    path = f"/v2/{REPOSITORY}/referrers/{IMAGE.digest}"
    hostile.registry.others[path] = fake.referrers(attested)
    hostile.registry.documents[digest_of(attested.manifest)] = (attested.manifest, MANIFEST_TYPE)
    assert hostile.pull(policy=POLICY) is None
    asked = [path for path, _headers in hostile.registry.requests]
    assert any(path.endswith(digest_of(attested.manifest)) for path in asked)
    del hostile.registry.documents[TAG]  # and alone it is none
    assert hostile.pull(policy=POLICY) == "signature.none"


def redirect(location: str, status: int = 307) -> Fault:
    return Fault(status=status, headers={"Location": location})


R71_REDIRECTS = [
    "https://127.0.0.2:9/steal",
    "https://169.254.169.254/latest/meta-data",
    "https://[fe80::1]/x",
    "https://2130706433/x",
    "https://0x7f.1/x",
    "http://localhost/x",
    "file:///etc/passwd",
    "ftp://cdn.example/x",
    "https://user:word@cdn.example/x",
    "//127.0.0.2:9/x",
    "https://intranet/x",
    "https://xn--a/x",
    "https://[fe80::1/x",
    "https://cdn.example:99999/x",
    "blob:x",
]


@pytest.mark.parametrize("location", R71_REDIRECTS)
def test_r71_redirect_into_the_neighbourhood_is_not_followed(
    hostile: Harness, location: str
) -> None:
    assert hostile.refusal(LAYER, redirect(location), auth=hostile.password()) == (
        "registry.redirect"
    )


def test_r71_redirect_in_circles_ends(hostile: Harness) -> None:
    circle = redirect(f"/v2/{REPOSITORY}/blobs/{LAYER}")
    assert hostile.refusal(LAYER, circle) == "registry.redirects"


def test_r71_redirect_takes_no_password_to_another_origin(
    hostile: Harness, authority: Authority
) -> None:
    with serve_hostile(IMAGE, authority.server_context()) as storage:
        basic = Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}, times=1)
        target = f"https://localhost:{storage.port}/v2/{REPOSITORY}/blobs/{LAYER}"
        hostile.registry.faults = {IMAGE.digest: basic, LAYER: redirect(target)}
        assert hostile.pull(auth=hostile.password()) is None
        requests = hostile.registry.requests
        assert len(hostile.registry.authorized()) == len(requests) - 1  # the first was answered 401
        assert len(storage.requests) == 1
        assert storage.authorized() == []


R71_REALMS = {
    "another origin": ('Bearer realm="https://tokens.example/steal",service="x"', "registry.realm"),
    "an address": ('Bearer realm="https://169.254.169.254/t"', "registry.realm"),
    "a name below ours": ('Bearer realm="https://evil.localhost/t"', "registry.realm"),
    "in clear": ('Bearer realm="http://localhost/t"', "registry.realm"),
    "a file": ('Bearer realm="file:///etc/passwd"', "registry.realm"),
    "with a user": ('Bearer realm="https://localhost@tokens.example/t"', "registry.realm"),
    "with a query": ('Bearer realm="https://localhost/t?to=evil"', "registry.realm"),
    "none": ("Bearer", "registry.challenge"),
    "twice": ('Bearer realm="https://localhost/a",realm="https://b.example"', "registry.challenge"),
    "of another scheme": ("Negotiate abc", "registry.challenge"),
    "too long": ('Bearer realm="' + "x" * 5000 + '"', "registry.challenge"),
}


@pytest.mark.parametrize("name", R71_REALMS)
def test_r71_realm_that_is_not_the_registrys_learns_nothing(hostile: Harness, name: str) -> None:
    challenge, reason = R71_REALMS[name]
    fault = Fault(status=401, headers={"WWW-Authenticate": challenge})
    assert hostile.refusal(IMAGE.digest, fault, auth=hostile.password()) == reason
    assert hostile.registry.authorized() == []


TOKEN = b'{"token": "t", "expires_in": 300}'
R71_TOKENS: dict[str, tuple[Fault, str]] = {
    "refused": (Fault(status=403), "registry.token"),
    "redirected": (redirect("https://tokens.example/steal"), "registry.token"),
    "no JSON": (Fault(body=b"<html>"), "token.json"),
    "no token": (Fault(body=b"{}"), "token.form"),
    "a header in it": (Fault(body=b'{"token": "a\\r\\nX-Evil: b"}'), "token.form"),
    "without an end": (Fault(body=b" " * 65_536, endless=True), "net.body"),
    "late": (Fault(stall=30), "net.deadline"),
}


@pytest.mark.parametrize("name", R71_TOKENS)
def test_r71_token_service_that_misbehaves(hostile: Harness, name: str) -> None:
    fault, reason = R71_TOKENS[name]
    realm = f'Bearer realm="https://localhost:{hostile.registry.port}/token",service="s"'
    ask = Fault(status=401, headers={"WWW-Authenticate": realm}, times=1)
    hostile.registry.others["/token"] = TOKEN
    hostile.registry.faults = {IMAGE.digest: ask, "/token": fault}
    seconds = 3 if fault.stall else 60
    assert hostile.pull(auth=hostile.password(), seconds=seconds) == reason
    hostile.registry.requests.clear()
    hostile.registry.faults = {
        IMAGE.digest: Fault(status=401, headers={"WWW-Authenticate": realm}, times=1)
    }
    assert hostile.pull(auth=hostile.password()) is None
    (token,) = [path for path, _headers in hostile.registry.requests if "/token" in path]
    assert token == f"/token?service=s&scope=repository%3A{REPOSITORY.replace('/', '%2F')}%3Apull"
    told = {headers.get("authorization") for _path, headers in hostile.registry.requests}
    assert told == {None, "Basic b3duZXI6c2VjcmV0", "Bearer t"}


def test_challenges_that_a_proxy_has_put_into_one_header_are_told_apart(hostile: Harness) -> None:
    offered = 'Negotiate, Basic realm="Bearer, or a password"'
    hostile.registry.faults[IMAGE.digest] = Fault(
        status=401, headers={"WWW-Authenticate": offered}, times=1
    )
    assert hostile.pull(auth=hostile.password()) is None
    assert hostile.registry.authorized()


def test_r71_challenge_that_is_never_satisfied_ends(hostile: Harness) -> None:
    basic = Fault(status=401, headers={"WWW-Authenticate": "Basic"})
    reason = hostile.refusal(IMAGE.digest, basic, auth=hostile.password())
    assert reason == "registry.unauthorized"
    assert len(hostile.registry.authorized()) == 1
