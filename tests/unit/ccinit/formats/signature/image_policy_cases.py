"""Policies that must be refused, for the unit tests and for the comparison with skopeo."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Requirement = dict[str, object]

KEY = (
    ec.derive_private_key(0x1234567, ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
KEY_DATA = base64.b64encode(KEY).decode()
ACCEPT: Requirement = {"type": "insecureAcceptAnything"}


def policy(*requirements: Requirement, **members: object) -> bytes:
    return json.dumps({"default": list(requirements), **members}).encode()


def signed(**members: object) -> Requirement:
    return {"type": "sigstoreSigned", "keyData": KEY_DATA, **members}


def naming(*uris: str) -> bytes:
    """Return a policy whose keys are these resources; one requirement takes 16 at most."""
    parts = (uris[start : start + 16] for start in range(0, len(uris), 16))
    requirements: list[Requirement] = [
        {"type": "sigstoreSigned", "keyPaths": part} for part in parts
    ]
    return policy(*requirements)


def identity(kind: str, **members: object) -> bytes:
    return policy(signed(signedIdentity={"type": kind, **members}))


def fulcio(**members: object) -> Requirement:
    value = {"caData": KEY_DATA, "oidcIssuer": "i", "subjectEmail": "s", **members}
    kept = {name: one for name, one in value.items() if one is not None}
    return {"type": "sigstoreSigned", "fulcio": kept, "rekorPublicKeyData": KEY_DATA}


def without(requirement: Requirement, *names: str) -> Requirement:
    return {name: value for name, value in requirement.items() if name not in names}


TWICE = policy(ACCEPT).replace(b'"type":', b'"type": "insecureAcceptAnything", "type":')

REFUSED: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "policy.json"),
    "two documents": (policy(ACCEPT) * 2, "policy.json"),
    "no object": (b"[]", "policy.type"),
    "no default": (b"{}", "policy.default"),
    "empty default": (policy(), "policy.default"),
    "default that is no list": (json.dumps({"default": ACCEPT}).encode(), "policy.default"),
    "unknown member": (policy(ACCEPT, more=1), "policy.unknown"),
    "member twice": (TWICE, "policy.duplicate"),
    "transports that are no object": (policy(ACCEPT, transports=[]), "policy.transports"),
    "scopes that are no object": (policy(ACCEPT, transports={"docker": []}), "policy.scopes"),
    "empty scope": (policy(ACCEPT, transports={"docker": {"a": []}}), "policy.requirements"),
    "no type": (policy({}), "policy.requirement.type"),
    "unknown type": (policy({"type": "signedByAnybody"}), "policy.requirement.type"),
    "accept with a member": (policy({**ACCEPT, "more": 1}), "policy.requirement.unknown"),
    "reject with a member": (policy({"type": "reject", "x": 1}), "policy.requirement.unknown"),
    "key with a member": (policy(signed(keyFile="x")), "policy.requirement.unknown"),
    "no key": (policy({"type": "sigstoreSigned"}), "policy.keys"),
    "two keys": (policy(signed(keyDatas=[KEY_DATA])), "policy.keys"),
    "key and certificate": (policy({**signed(), **fulcio()}), "policy.keys"),
    "key that is not base64": (policy(signed(keyData=KEY.decode())), "policy.key_data"),
    "no key in the list": (
        policy({"type": "sigstoreSigned", "keyDatas": []}),
        "policy.keys",
    ),
    "two keys of logs": (
        policy(signed(rekorPublicKeyData=KEY_DATA, rekorPublicKeyDatas=[KEY_DATA])),
        "policy.keys",
    ),
    "certificate without a log": (policy(without(fulcio(), "rekorPublicKeyData")), "policy.keys"),
    "certificate without roots": (policy(fulcio(caData=None)), "policy.keys"),
    "certificate for nobody": (
        policy(fulcio(subjectEmail=None)),
        "policy.requirement.fulcio.subjectEmail",
    ),
    "certificate from nobody": (
        policy(fulcio(oidcIssuer=None)),
        "policy.requirement.fulcio.oidcIssuer",
    ),
    "certificate with a member": (
        policy(fulcio(subjectURI="x")),
        "policy.requirement.fulcio.unknown",
    ),
    "unknown identity": (identity("matchAnything"), "policy.identity"),
    "identity with a member": (
        identity("matchExact", x=1),
        "policy.requirement.signedIdentity.unknown",
    ),
    "exact reference of a name": (
        identity("exactReference", dockerReference="r.example/a"),
        "policy.identity",
    ),
    "exact reference of nothing": (
        identity("exactReference"),
        "policy.requirement.signedIdentity.dockerReference",
    ),
    "exact repository of what is none": (
        identity("exactRepository", dockerRepository="R.example/A"),
        "policy.identity",
    ),
    "prefix that is none": (
        identity("remapIdentity", prefix="r.example/", signedPrefix="r.example"),
        "policy.identity",
    ),
    "prefix for nothing": (
        identity("remapIdentity", prefix="r.example"),
        "policy.requirement.signedIdentity.signedPrefix",
    ),
    "OpenPGP without keys": (policy({"type": "signedBy", "keyType": "GPGKeys"}), "policy.keys"),
    "OpenPGP of unknown keys": (
        policy({"type": "signedBy", "keyType": "x", "keyData": "AAAA"}),
        "policy.requirement.keyType",
    ),
}
"""What containers/image refuses as well."""

OURS_ONLY: dict[str, tuple[bytes, str]] = {
    "key in a file": (
        policy({"type": "sigstoreSigned", "keyPath": "/etc/pki/key.pub"}),
        "policy.key_path",
    ),
    "certificates without a log": (
        policy({"type": "sigstoreSigned", "pki": {"caRootsData": KEY_DATA, "subjectEmail": "s"}}),
        "policy.pki",
    ),
    "base layers": (
        policy({"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}),
        "policy.requirement.type",
    ),
    "too many keys": (
        policy({"type": "sigstoreSigned", "keyDatas": [KEY_DATA] * 17}),
        "policy.requirement.keyDatas",
    ),
    "too many requirements": (policy(*[ACCEPT] * 17), "policy.default"),
    "too many scopes": (
        policy(ACCEPT, transports={"docker": {f"r{n}.example": [ACCEPT] for n in range(513)}}),
        "policy.scopes",
    ),
    "key that is too long": (
        policy(signed(keyData=base64.b64encode(bytes((64 << 10) + 1)).decode())),
        "policy.key_data",
    ),
    "certificate for an empty name": (policy(fulcio(subjectEmail="")), "policy.fulcio"),
    "certificate from an empty issuer": (policy(fulcio(oidcIssuer="")), "policy.fulcio"),
}
"""What is legal elsewhere, and cannot be honoured here."""
