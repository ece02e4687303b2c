"""Signatures of images, made from the specifications and from nothing of the code under test.

cosign's SIGNATURE_SPEC.md for classic signatures, Rekor's signed entry timestamp over RFC 8785
JSON, certificates as Fulcio issues them, Sigstore bundles 0.3, and the manifests they are kept in.
"""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fakes.images.registry import descriptor

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

CLASSIC = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = b"{}"
ISSUER = "https://accounts.example"
SUBJECT = "release@team.example"
NOW = 1_790_000_000


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sign(key: PrivateKey, message: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(message, padding.PKCS1v15(), SHA256())
        case ed25519.Ed25519PrivateKey():
            return key.sign(message)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def payload_of(digest: str, name: str, **critical: object) -> bytes:
    """The payload of a classic signature; `critical` replaces or adds members."""
    value = {
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
            **critical,
        },
        "optional": None,
    }
    return json.dumps(value).encode()


@dataclass
class Log:
    """A transparency log that records whatever it is told."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    time: int = NOW

    @property
    def id(self) -> bytes:
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).digest()

    def _payload(self, body: bytes) -> dict[str, object]:
        return {
            "body": b64(body),
            "integratedTime": self.time,
            "logIndex": 7,
            "logID": self.id.hex(),
        }

    def promise(self, body: bytes) -> bytes:
        text = json.dumps(self._payload(body), sort_keys=True, separators=(",", ":"))
        return sign(self.key, text.encode())

    def annotation(self, body: bytes) -> str:
        """The entry as it comes with a classic signature."""
        promise = b64(self.promise(body))
        return json.dumps({"SignedEntryTimestamp": promise, "Payload": self._payload(body)})

    def bundle_entry(self, body: bytes, kind: str) -> dict[str, object]:
        """The entry as it comes in a bundle."""
        return {
            "logIndex": "7",
            "logId": {"keyId": b64(self.id)},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": str(self.time),
            "inclusionPromise": {"signedEntryTimestamp": b64(self.promise(body))},
            "canonicalizedBody": b64(body),
        }


def hashedrekord(payload: bytes, signature: bytes, verifier: bytes) -> bytes:
    return json.dumps(
        {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {
                    "hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
                },
                "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier)}},
            },
        }
    ).encode()


def dsse_entry(payload: bytes, signature: bytes, verifier: bytes) -> bytes:
    return json.dumps(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
                "payloadHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(payload).hexdigest(),
                },
                "signatures": [{"signature": b64(signature), "verifier": b64(verifier)}],
            },
        }
    ).encode()


@dataclass
class Authority:
    """Issues certificates as Fulcio does: ten minutes, for an address, with its issuer."""

    root_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )

    def __post_init__(self) -> None:
        year = dt.timedelta(days=365)
        root = _certificate("root", self.root_key.public_key(), "root", year)
        self.root = (
            root.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(issues=True), critical=True)
            .sign(self.root_key, SHA256())
        )
        intermediate = _certificate("intermediate", self.key.public_key(), "root", year)
        self.intermediate = (
            intermediate.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(issues=True), critical=True)
            .add_extension(_CODE_SIGNING, critical=False)
            .sign(self.root_key, SHA256())
        )

    def issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        subject: str = SUBJECT,
        issuers: Mapping[str, bytes] | None = None,
        usage: x509.ExtendedKeyUsage | None = None,
    ) -> x509.Certificate:
        """Issue a certificate; `issuers` are the extensions with the identity's issuer."""
        builder = (
            _certificate("", key.public_key(), "intermediate", dt.timedelta(minutes=10))
            .add_extension(_usage(issues=False), critical=True)
            .add_extension(usage or _CODE_SIGNING, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(subject)]), critical=True)
        )
        for name, value in (issuers or {ISSUER_V1: ISSUER.encode()}).items():
            oid = x509.ObjectIdentifier(name)
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return builder.sign(self.key, SHA256())


ISSUER_V1 = "1.3.6.1.4.1.57264.1.1"
ISSUER_V2 = "1.3.6.1.4.1.57264.1.8"
_CODE_SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, life: dt.timedelta
) -> x509.CertificateBuilder:
    begin = dt.datetime.fromtimestamp(NOW, dt.UTC) - dt.timedelta(minutes=1)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
    )


def _name(text: str) -> x509.Name:
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, text)] if text else []
    return x509.Name(attributes)


def _usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


@dataclass(frozen=True)
class Attachment:
    """A signature manifest and its blobs."""

    manifest: bytes
    blobs: tuple[bytes, ...]


def classic_layer(
    payload: bytes,
    key: PrivateKey,
    *,
    log: Log | None = None,
    certificate: x509.Certificate | None = None,
    chain: Sequence[x509.Certificate] = (),
    signature: bytes | None = None,
) -> tuple[bytes, dict[str, str]]:
    """A payload and its annotations."""
    signature = sign(key, payload) if signature is None else signature
    annotations = {"dev.cosignproject.cosign/signature": b64(signature)}
    verifier = public_pem(key)
    if certificate is not None:
        annotations["dev.sigstore.cosign/certificate"] = pem(certificate)
        verifier = pem(certificate).encode()
    if chain:
        annotations["dev.sigstore.cosign/chain"] = pem(*chain)
    if log is not None:
        body = hashedrekord(payload, signature, verifier)
        annotations["dev.sigstore.cosign/bundle"] = log.annotation(body)
    return payload, annotations


def classic(*layers: tuple[bytes, dict[str, str]]) -> Attachment:
    """The manifest under the tag `sha256-….sig`."""
    blobs = tuple(payload for payload, _annotations in layers)
    config = b'{"rootfs":{"type":"layers","diff_ids":[]}}'
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [
            {**descriptor(CLASSIC, payload), "annotations": annotations}
            for payload, annotations in layers
        ],
    }
    return Attachment(json.dumps(manifest).encode(), blobs)


def statement_of(
    digest: str, name: str = "", predicate: str = "https://sigstore.dev/cosign/sign/v1"
) -> bytes:
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": predicate,
            "predicate": {},
        }
    ).encode()


def envelope_bundle(
    statement: bytes,
    key: PrivateKey,
    *,
    log: Log | None = None,
    certificate: x509.Certificate | None = None,
    payload_type: str = "application/vnd.in-toto+json",
) -> bytes:
    """A bundle with a DSSE envelope."""
    head = f"DSSEv1 {len(payload_type)} {payload_type} {len(statement)} ".encode()
    signature = sign(key, head + statement)
    material = _material(key, certificate)
    if log is not None:
        verifier = public_pem(key) if certificate is None else pem(certificate).encode()
        body = dsse_entry(statement, signature, verifier)
        material["tlogEntries"] = [log.bundle_entry(body, "dsse")]
    content = {
        "payload": b64(statement),
        "payloadType": payload_type,
        "signatures": [{"sig": b64(signature), "keyid": ""}],
    }
    return _bundle(material, dsseEnvelope=content)


def message_bundle(
    document: bytes,
    key: PrivateKey,
    *,
    log: Log | None = None,
    certificate: x509.Certificate | None = None,
) -> bytes:
    """A bundle with a signature over the manifest itself."""
    signature = sign(key, document)
    material = _material(key, certificate)
    if log is not None:
        verifier = public_pem(key) if certificate is None else pem(certificate).encode()
        body = hashedrekord(document, signature, verifier)
        material["tlogEntries"] = [log.bundle_entry(body, "hashedrekord")]
    digest = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(document).digest())}
    content = {"messageDigest": digest, "signature": b64(signature)}
    return _bundle(material, messageSignature=content)


def _material(key: PrivateKey, certificate: x509.Certificate | None) -> dict[str, object]:
    if certificate is None:
        return {"publicKey": {"hint": b64(hashlib.sha256(public_pem(key)).digest())}}
    return {"certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))}}


def _bundle(material: dict[str, object], **content: object) -> bytes:
    value = {"mediaType": BUNDLE, "verificationMaterial": material, **content}
    return json.dumps(value).encode()


def annotations_of(predicate: str) -> dict[str, str]:
    """What cosign's BUNDLE_SPEC.md has a manifest say of the statement in its bundle."""
    return {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": predicate,
    }


def bundle_artifact(image: bytes, bundle: bytes, **members: object) -> Attachment:
    """The artifact that refers to an image and carries a bundle."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": BUNDLE,
        "config": descriptor("application/vnd.oci.empty.v1+json", EMPTY),
        "layers": [descriptor(BUNDLE, bundle)],
        "subject": descriptor("application/vnd.oci.image.manifest.v1+json", image),
        **members,
    }
    return Attachment(json.dumps(manifest).encode(), (bundle,))


def referrers(*artifacts: Attachment) -> bytes:
    """The index that lists artifacts."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {
                    **descriptor("application/vnd.oci.image.manifest.v1+json", one.manifest),
                    "artifactType": BUNDLE,
                }
                for one in artifacts
            ],
        }
    ).encode()


def signature_tag(digest: str) -> str:
    return digest.replace(":", "-") + ".sig"


def referrers_tag(digest: str) -> str:
    return digest.replace(":", "-")
