"""Signatures that are good or not, for the guest and for skopeo to judge.

A case is what is attached (made from the image's name and digest), a requirement, and the guest's
reason for a refusal, or None.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.images import signatures as fake

Layer = tuple[bytes, dict[str, str]]

KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
LOG, STRANGE_LOG = fake.Log(), fake.Log()
FULCIO, STRANGE_FULCIO = fake.Authority(), fake.Authority()
CHAIN = (FULCIO.intermediate, FULCIO.root)


def key_requirement(**more: object) -> dict[str, object]:
    return {"type": "sigstoreSigned", "keyData": fake.b64(fake.public_pem(KEY)), **more}


def named(kind: str, **more: object) -> dict[str, object]:
    return key_requirement(signedIdentity={"type": kind, **more})


def fulcio_requirement(**more: object) -> dict[str, object]:
    fulcio = {
        "caData": fake.b64(fake.pem(FULCIO.root).encode()),
        "oidcIssuer": fake.ISSUER,
        "subjectEmail": fake.SUBJECT,
        **more,
    }
    return {"type": "sigstoreSigned", "fulcio": fulcio, **LOGGED}


LOGGED = {"rekorPublicKeyData": fake.b64(fake.public_pem(LOG.key))}
PLAIN = key_requirement()


def signature(name: str, digest: str, **more: object) -> Layer:
    return fake.classic_layer(fake.payload_of(digest, name), KEY, **more)  # type: ignore[arg-type]


def certified(name: str, digest: str, **more: object) -> Layer:
    given = {"certificate": FULCIO.issue(KEY), "chain": CHAIN, "log": LOG, **more}
    return signature(name, digest, **given)


def moved(layer: Layer, other: Layer) -> Layer:
    """A signature with another's log entry."""
    key = "dev.sigstore.cosign/bundle"
    return layer[0], {**layer[1], key: other[1][key]}


OTHER_DIGEST = "sha256:" + "5" * 64

CASES: dict[str, tuple[Callable[[str, str], Sequence[Layer]], dict[str, object], str | None]] = {
    "none": (lambda _name, _digest: (), PLAIN, "signature.none"),
    "by tag": (lambda n, d: (signature(f"{n}:v1", d),), PLAIN, None),
    "by name": (lambda n, d: (signature(n, d),), PLAIN, "signature.identity"),
    "by digest": (lambda n, d: (signature(f"{n}@{d}", d),), PLAIN, None),
    "another repository": (lambda n, d: (signature(f"{n}x:v1", d),), PLAIN, "signature.identity"),
    "another image": (lambda n, _d: (signature(n, OTHER_DIGEST),), PLAIN, "signature.digest"),
    "another key": (
        lambda n, d: (fake.classic_layer(fake.payload_of(d, n), STRANGER),),
        PLAIN,
        "signature.key",
    ),
    "one good of three": (
        lambda n, d: (
            fake.classic_layer(b"no payload", KEY),
            fake.classic_layer(fake.payload_of(d, n), STRANGER),
            signature(f"{n}:v1", d),
        ),
        PLAIN,
        None,
    ),
    "member too much": (
        lambda n, d: (fake.classic_layer(fake.payload_of(d, n, more=1), KEY),),
        PLAIN,
        "signature.payload.members",
    ),
    "another type": (
        lambda n, d: (fake.classic_layer(fake.payload_of(d, n, type="x"), KEY),),
        PLAIN,
        "signature.payload.type",
    ),
    "exact name of a digest": (
        lambda n, d: (signature(f"{n}@{d}", d),),
        named("matchExact"),
        None,
    ),
    "same repository": (
        lambda n, d: (signature(n, d),),
        named("matchRepository"),
        None,
    ),
    "this reference": (
        lambda _n, d: (signature("dev.example/a:1", d),),
        named("exactReference", dockerReference="dev.example/a:1"),
        None,
    ),
    "not this reference": (
        lambda _n, d: (signature("dev.example/a:2", d),),
        named("exactReference", dockerReference="dev.example/a:1"),
        "signature.identity",
    ),
    "this repository": (
        lambda _n, d: (signature("dev.example/a:2", d),),
        named("exactRepository", dockerRepository="dev.example/a"),
        None,
    ),
    "short name": (
        lambda _n, d: (signature("docker.io/library/busybox", d),),
        named("exactRepository", dockerRepository="busybox"),
        None,
    ),
    "recorded": (
        lambda n, d: (signature(f"{n}:v1", d, log=LOG),),
        key_requirement(**LOGGED),
        None,
    ),
    "not recorded": (
        lambda n, d: (signature(f"{n}:v1", d),),
        key_requirement(**LOGGED),
        "signature.log",
    ),
    "recorded by another": (
        lambda n, d: (signature(f"{n}:v1", d, log=STRANGE_LOG),),
        key_requirement(**LOGGED),
        "signature.log",
    ),
    "record of another signature": (
        lambda n, d: (moved(signature(f"{n}:v1", d), signature(n, OTHER_DIGEST, log=LOG)),),
        key_requirement(**LOGGED),
        "signature.log_entry",
    ),
    "certificate": (lambda n, d: (certified(f"{n}:v1", d),), fulcio_requirement(), None),
    "certificate without a log": (
        lambda n, d: (certified(f"{n}:v1", d, log=None),),
        fulcio_requirement(),
        "signature.log",
    ),
    "certificate after its time": (
        lambda n, d: (certified(f"{n}:v1", d, log=replace(LOG, time=fake.NOW + 3600)),),
        fulcio_requirement(),
        "signature.certificate",
    ),
    "certificate of another root": (
        lambda n, d: (
            certified(
                f"{n}:v1",
                d,
                certificate=STRANGE_FULCIO.issue(KEY),
                chain=(STRANGE_FULCIO.intermediate, STRANGE_FULCIO.root),
            ),
        ),
        fulcio_requirement(),
        "signature.certificate",
    ),
    "certificate for somebody else": (
        lambda n, d: (
            certified(f"{n}:v1", d, certificate=FULCIO.issue(KEY, subject="x@y.example")),
        ),
        fulcio_requirement(),
        "signature.subject",
    ),
    "certificate from elsewhere": (
        lambda n, d: (certified(f"{n}:v1", d),),
        fulcio_requirement(oidcIssuer="https://other.example"),
        "signature.issuer",
    ),
    "certificate of another key": (
        lambda n, d: (certified(f"{n}:v1", d, certificate=FULCIO.issue(STRANGER)),),
        fulcio_requirement(),
        "signature.key",
    ),
    "certificate instead of a key": (
        lambda n, d: (certified(f"{n}:v1", d, certificate=FULCIO.issue(STRANGER)),),
        key_requirement(),
        None,
    ),
}
