"""What a registry can do wrong, row by row of the threat table (R51 to R55, R61, R71).

Every refusal shows the reason of the check it meets, leaves no file, and is followed by a pull of
the honest image from the same registry. The layer is large enough that a fault can hit its middle.
"""

import base64
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.errors import CcinitError
from ccinit.pull.messages import PullLimits, SignaturePolicy
from tests.fakes import signatures as fake
from tests.fakes.hostile_registry import Fault, HostileRegistry, serve_hostile
from tests.fakes.registry import (
    REPOSITORY,
    FakeImage,
    digest_of,
    make_image,
    make_index,
)
from tests.fakes.tars import Entry, make_tar
from tests.integration.pull_fixture import LIMITS, overlaid, pulled
from tests.integration.registry_fixture import Authority, make_authority
from tests.integration.signing_fixture import policy_json

CONTENT = random.Random(1).randbytes(1 << 20)  # noqa: S311  # does not compress
IMAGE = make_image([make_tar(Entry("data", CONTENT), Entry("etc", None))])
LAYER = IMAGE.blob_names()[0]
BLOB = IMAGE.blobs[LAYER]
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
Headers = Mapping[str, str | None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccinit.pull.registry._FIRST_WAIT_SECONDS", 0.01)


@dataclass
class Harness:
    """One hostile registry, and a guest that pulls from it."""

    registry: HostileRegistry
    authority: Authority
    work: Path
    pulls: int = 0

    def reference(self, image: FakeImage = IMAGE) -> str:
        return f"localhost:{self.registry.port}/{REPOSITORY}@{image.digest}"

    def pull(
        self,
        image: FakeImage = IMAGE,
        *,
        seconds: int = 60,
        auth: bytes = b"",
        policy: bytes = b"",
    ) -> str | None:
        """Pull; return the reason of a refusal, or None."""
        self.pulls += 1
        directory = self.work / str(self.pulls)
        limits = PullLimits(tar_bytes=LIMITS.tar_bytes, total_seconds=seconds)
        document = SignaturePolicy(document=policy, keys=()) if policy else None
        try:
            with pulled(
                self.reference(image),
                self.authority.ca_pem,
                directory,
                auth=auth,
                limits=limits,
                policy=document,
            ):
                return None
        except CcinitError as error:
            assert list(directory.iterdir()) == []
            return error.reason

    def refusal(self, ending: str, fault: Fault, **how: object) -> str | None:
        """Pull with a fault, then without; return the reason of the first."""
        self.registry.faults[ending] = fault
        reason = self.pull(**how)  # type: ignore[arg-type]
        self.registry.faults.clear()
        assert self.pull() is None
        return reason

    def serve(self, image: FakeImage) -> FakeImage:
        """Serve another image, too."""
        self.registry.documents[image.digest] = (image.manifest, image.content_type)
        self.registry.image = FakeImage(
            IMAGE.manifest, IMAGE.config, {**self.registry.image.blobs, **image.blobs}
        )
        return image

    def password(self) -> bytes:
        encoded = base64.b64encode(b"owner:secret").decode()
        return json.dumps(
            {"auths": {f"localhost:{self.registry.port}": {"auth": encoded}}}
        ).encode()


@pytest.fixture
def hostile(authority: Authority, tmp_path: Path) -> Iterator[Harness]:
    with serve_hostile(IMAGE, authority.server_context()) as registry:
        yield Harness(registry, authority, tmp_path)


R51: dict[str, tuple[Fault, str]] = {
    "a byte more": (Fault(body=IMAGE.manifest + b" "), "pull.manifest_digest"),
    "a byte less": (Fault(body=IMAGE.manifest[:-1]), "pull.manifest_digest"),
    "nothing": (Fault(body=b""), "pull.manifest_digest"),
    "another image": (Fault(body=make_image([b"x"]).manifest), "pull.manifest_digest"),
    "beyond its cap": (Fault(body=b" " * (2 << 20)), "pull.blob_size"),
    "without an end": (Fault(body=b" " * 65_536, endless=True), "pull.blob_size"),
}


@pytest.mark.parametrize("name", R51)
def test_r51_manifest_that_is_not_the_pinned_one(hostile: Harness, name: str) -> None:
    fault, reason = R51[name]
    assert hostile.refusal(IMAGE.digest, fault) == reason


def with_manifest(**members: object) -> FakeImage:
    """The image with another manifest, which is pinned: the registry's bytes are the right ones."""
    changed = {**json.loads(IMAGE.manifest), **members}
    return FakeImage(json.dumps(changed).encode(), IMAGE.config, IMAGE.blobs)


def layer_with(**members: object) -> FakeImage:
    (layer,) = json.loads(IMAGE.manifest)["layers"]
    return with_manifest(layers=[{**layer, **members}])


def config_of(media_type: str) -> dict[str, object]:
    return {**json.loads(IMAGE.manifest)["config"], "mediaType": media_type}


R52: dict[str, tuple[FakeImage, str]] = {
    "manifest and index": (with_manifest(manifests=[]), "manifest.ambiguous"),
    "schema 1": (with_manifest(schemaVersion=1), "manifest.schema"),
    "unknown type": (with_manifest(mediaType="text/plain"), "manifest.media_type"),
    "index by its type": (with_manifest(mediaType=INDEX_TYPE), "manifest.media_type"),
    "unknown layer": (layer_with(mediaType="application/zip"), "manifest.layer_type"),
    "no layers": (with_manifest(layers=[]), "manifest.layers"),
    "too many layers": (
        with_manifest(layers=json.loads(IMAGE.manifest)["layers"] * 129),
        "manifest.layers",
    ),
    "no image": (
        with_manifest(config=config_of("application/vnd.oci.empty.v1+json")),
        "manifest.config_type",
    ),
}


@pytest.mark.parametrize("name", R52)
def test_r52_document_that_is_two_things_or_none(hostile: Harness, name: str) -> None:
    image, reason = R52[name]
    assert hostile.pull(hostile.serve(image)) == reason
    assert hostile.pull() is None


def test_r52_content_type_that_contradicts_the_document(hostile: Harness) -> None:
    fault = Fault(headers={"Content-Type": INDEX_TYPE})
    assert hostile.refusal(IMAGE.digest, fault) == "manifest.media_type"


def index_of(*entries: dict[str, object]) -> FakeImage:
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(entries)}
    return FakeImage(json.dumps(document).encode(), IMAGE.config, IMAGE.blobs, INDEX_TYPE)


(ENTRY,) = json.loads(make_index(IMAGE, platforms=[("linux", "amd64")]))["manifests"]
ABSENT = {**ENTRY, "digest": "sha256:" + "0" * 64}
R53: dict[str, tuple[FakeImage, str | None]] = {
    "one match": (index_of(ENTRY), None),
    "first of two matches": (index_of(ENTRY, ABSENT), None),
    "first match is not there": (index_of(ABSENT, ENTRY), "registry.not_found"),
    "no match": (
        index_of({**ENTRY, "platform": {"os": "linux", "architecture": "arm64"}}),
        "manifest.platform",
    ),
    "index in an index": (index_of({**ENTRY, "mediaType": INDEX_TYPE}), "manifest.nested"),
    "65 entries": (index_of(*[ENTRY] * 65), "manifest.entries"),
    "size of another": (index_of({**ENTRY, "size": 7}), "pull.blob_size"),
}


@pytest.mark.parametrize("name", R53)
def test_r53_index(hostile: Harness, name: str) -> None:
    image, reason = R53[name]
    assert hostile.pull(hostile.serve(image)) == reason


R54: dict[str, tuple[FakeImage, str]] = {
    "one more": (layer_with(size=len(BLOB) + 1), "pull.blob_size"),
    "one less": (layer_with(size=len(BLOB) - 1), "pull.blob_size"),
    "negative": (layer_with(size=-1), "manifest.size"),
    "fraction": (layer_with(size=0.5), "manifest.number"),
    "text": (layer_with(size=str(len(BLOB))), "manifest.size"),
    "truth": (layer_with(size=True), "manifest.size"),
    "beyond the cap": (layer_with(size=1 << 50), "manifest.size"),
    "beyond every integer": (layer_with(size=1 << 70), "manifest.number"),
}


@pytest.mark.parametrize("name", R54)
def test_r54_size_in_a_descriptor(hostile: Harness, name: str) -> None:
    image, reason = R54[name]
    assert hostile.pull(hostile.serve(image)) == reason
    assert hostile.pull() is None


FLIPPED = BLOB[:-9] + bytes([BLOB[-9] ^ 1]) + BLOB[-8:]
R55: dict[str, tuple[Fault, str]] = {
    "flipped bit": (Fault(body=FLIPPED), "pull.blob_digest"),
    "truncated": (Fault(body=BLOB[:-1]), "pull.blob_size"),
    "extended": (Fault(body=BLOB + b"x"), "pull.blob_size"),
    "always cut": (Fault(cut=1000), "net.truncated"),
    "without an end": (Fault(body=BLOB, endless=True), "pull.blob_size"),
    "not there": (Fault(status=404), "registry.not_found"),
    "always busy": (Fault(status=503), "registry.busy"),
    "content coding": (Fault(headers={"Content-Encoding": "gzip"}), "net.encoding"),
    "no end announced": (Fault(headers={"Content-Length": None}), "net.unframed"),
    "headers beyond their cap": (Fault(headers={"X-More": "x" * 70_000}), "net.headers"),
    "no HTTP": (Fault(raw=b"SSH-2.0-OpenSSH\r\n"), "net.truncated"),
}


@pytest.mark.parametrize("name", R55)
def test_r55_blob_that_is_not_what_was_asked_for(hostile: Harness, name: str) -> None:
    fault, reason = R55[name]
    assert hostile.refusal(LAYER, fault) == reason
    tried = sum(LAYER in path for path, _headers in hostile.registry.requests)
    assert tried <= 5 + 1  # bounded attempts, and the honest one


def test_r55_blob_that_is_always_reset(hostile: Harness) -> None:
    # A reset may come before or after what was sent has been read.
    reset = Fault(cut=1000, reset=True)
    assert hostile.refusal(LAYER, reset) in {"net.truncated", "net.closed"}


@pytest.mark.parametrize(
    "fault", [Fault(stall=30), Fault(drip=0.1)], ids=["silence", "a byte at a time"]
)
def test_r55_blob_that_does_not_come_ends_with_the_time(hostile: Harness, fault: Fault) -> None:
    assert hostile.refusal(LAYER, fault, seconds=2) in {"registry.deadline", "net.deadline"}


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("then", [Fault(), Fault(ignore_range=True), Fault(lie_about_range=True)])
def test_r55_blob_that_breaks_at_99_percent_goes_on_and_ends_whole(
    hostile: Harness, then: Fault, *, reset: bool
) -> None:
    first = Fault(cut=len(BLOB) * 99 // 100, times=1, reset=reset)
    hostile.registry.faults = {LAYER: first, "/" + LAYER: then}
    if then.lie_about_range:
        then.times = 1
    with (
        pulled(hostile.reference(), hostile.authority.ca_pem, hostile.work / "pull") as image,
        overlaid(image, hostile.work / "overlay") as merged,
    ):
        assert (merged / "data").read_bytes() == CONTENT
    asked = [headers for path, headers in hostile.registry.requests if LAYER in path]
    assert "range" not in asked[0]
    assert "range" in asked[1]


def test_r55_part_that_was_changed_after_a_break_is_noticed(hostile: Harness) -> None:
    first = Fault(cut=len(BLOB) // 2, times=1)
    hostile.registry.faults = {LAYER: first, "/" + LAYER: Fault(body=FLIPPED)}
    assert hostile.pull() == "pull.blob_digest"


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
    seconds = 2 if fault.stall else 60
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


def test_r71_challenge_that_is_never_satisfied_ends(hostile: Harness) -> None:
    basic = Fault(status=401, headers={"WWW-Authenticate": "Basic"})
    reason = hostile.refusal(IMAGE.digest, basic, auth=hostile.password())
    assert reason == "registry.unauthorized"
    assert len(hostile.registry.authorized()) == 1
