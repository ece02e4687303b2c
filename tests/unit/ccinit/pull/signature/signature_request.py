"""An image, keys, logs and authorities, and the question whether a policy accepts a signature."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ccinit.errors import CcinitError
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    AttachedManifest,
    FoundSignatures,
    PolicyKey,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.pull.signature.judge import signature_job
from tests.fakes.images import signatures as fake
from tests.fakes.images.registry import make_image
from tests.fakes.images.signatures import Attachment, b64, classic, classic_layer, payload_of

IMAGE = make_image([b"tar"])
OTHER = make_image([b"other"])
NAME = "registry.example/team/app"
REFERENCE = f"{NAME}@{IMAGE.digest}"
KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, fake.PrivateKey] = {
    "P-256": KEY,
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa.generate_private_key(65537, 2048),
}
LOG, STRANGE_LOG = fake.Log(), fake.Log()
FULCIO, STRANGE_FULCIO = fake.Authority(), fake.Authority()
CERTIFICATE = FULCIO.issue(KEY)


def payload(digest: str = IMAGE.digest, name: str = f"{NAME}:v1", **critical: object) -> bytes:
    return payload_of(digest, name, **critical)


def policy_of(*requirements: object, scopes: Mapping[str, object] | None = None) -> bytes:
    """A policy that rejects by default; the requirements are the repository's."""
    docker = {NAME: list(requirements), **(scopes or {})} if requirements else dict(scopes or {})
    value = {"default": [{"type": "reject"}], "transports": {"docker": docker}}
    return json.dumps(value).encode()


def by_key(key: fake.PrivateKey = KEY, **more: object) -> dict[str, object]:
    return {"type": "sigstoreSigned", "keyData": b64(fake.public_pem(key)), **more}


def logged(log: fake.Log = LOG) -> dict[str, Any]:
    return {"rekorPublicKeyData": b64(fake.public_pem(log.key))}


def by_fulcio(**more: object) -> dict[str, object]:
    fulcio = {
        "caData": b64(fake.pem(FULCIO.root).encode()),
        "oidcIssuer": fake.ISSUER,
        "subjectEmail": fake.SUBJECT,
        **more,
    }
    return {"type": "sigstoreSigned", "fulcio": fulcio, **logged()}


def judge(
    policy: bytes,
    *attachments: Attachment,
    reference: str = REFERENCE,
    documents: tuple[bytes, ...] = (IMAGE.manifest,),
    keys: Sequence[PolicyKey] = (),
) -> AcceptedImage:
    manifests = tuple(
        AttachedManifest(manifest=one.manifest, blobs=one.blobs) for one in attachments
    )
    request = SignatureRequest(
        reference=reference,
        policy=SignaturePolicy(document=policy, keys=tuple(keys)),
        found=FoundSignatures(documents=documents, manifests=manifests),
    )
    return signature_job(request, None)


def refusal(policy: bytes, *attachments: Attachment) -> str:
    with pytest.raises(CcinitError) as refused:
        judge(policy, *attachments)
    return refused.value.reason


GOOD = classic(classic_layer(payload(), KEY))
