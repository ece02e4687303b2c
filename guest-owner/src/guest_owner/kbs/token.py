"""Attestation tokens: the signed attestation result that a guest shows for resources.

A JWS (RFC 7515, compact) with ES256 (RFC 7518 section 3.4). Its claims have the shape of Trustee's
EAR tokens, so that clients which read expiry, and tools which read `submods.cpu0`, find what they
know. *This* KBS decides by the member `ccinit`, which only it reads. It verifies tokens with its
own key only: nothing in a token's header is used.
"""

import json
import time
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64url,
    encode_base64url,
    parse_json,
)
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import parse_jwk
from ccinit.formats.kbs.rcar import Nonce
from guest_owner.kbs.appraisal import AppraisedEvidence, Subject
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.references.values import Profile
from guest_owner.kbs.sessions import Attested

PROFILE = "tag:github.com,2024:confidential-containers/Trustee"
ISSUER = "ccinit guest-owner"
MAX_TOKEN_BYTES = 32 * 1024

_COORDINATE_BYTES = 32
_CLOCK_STEP_SECONDS = 60
# RATS AR4SI: 2 is a recognised instance, configuration, hardware; 3 an approved boot.
_TRUST_VECTOR = {
    "instance-identity": 2,
    "configuration": 2,
    "executables": 3,
    "file-system": 0,
    "hardware": 2,
    "runtime-opaque": 0,
    "storage-opaque": 0,
    "sourced-data": 0,
}


class TokenSigner:
    """Signs and verifies this KBS's tokens."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        life_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: key: on P-256; life_seconds: of every token; clock: seconds since the epoch."""
        self._key = key
        self._life_seconds = life_seconds
        self._clock = clock

    def sign(self, evidence: AppraisedEvidence, attested: Attested, nonce: Nonce) -> str:
        """Return the token of an appraised guest."""
        now = int(self._clock())
        jwk = self._public_jwk()
        header: dict[str, JsonValue] = {
            "typ": "JWT",
            "alg": "ES256",
            "kid": jwk["kid"],
            "jwk": jwk,
        }
        claims: dict[str, JsonValue] = {
            "eat_profile": PROFILE,
            "iat": now,
            "exp": now + self._life_seconds,
            "iss": ISSUER,
            "ear.verifier-id": {"developer": "ccinit", "build": "guest-owner"},
            "submods": {"cpu0": _submodule(evidence, attested, nonce), **_devices(evidence)},
            "tee-pubkey": attested.tee_pubkey.to_json_object(),
            "ccinit": _private_claims(attested),
        }
        signed = f"{_encode(header)}.{_encode(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode("ascii"), ec.ECDSA(SHA256())))
        raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return f"{signed}.{encode_base64url(raw)}"

    def key_set(self) -> bytes:
        """Return the JWK Set (RFC 7517 section 5) with the key that verifies this KBS's tokens."""
        return json.dumps({"keys": [{**self._public_jwk(), "use": "sig"}]}).encode("ascii")

    def _public_jwk(self) -> dict[str, str]:
        jwk = public_jwk(self._key.public_key())
        return {**jwk.to_epk_object(), "alg": "ES256", "kid": encode_base64url(jwk.thumbprint())}

    def verify(self, token: str) -> Attested:
        """Return what a token says, if this KBS signed it and it has not expired.

        Raises:
            FormatError: `token.…`, not a token of ours.
            VerificationError: `token.signature`, `token.expired` or `token.issued`.
        """
        if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
            raise FormatError("token.form", "not a compact JWS")
        signed, _, signature = token.rpartition(".")
        self._verify_signature(signed, decode_base64url(signature, "token.signature"))
        payload = decode_base64url(signed.partition(".")[2], "token.payload")
        return self._read(parse_json(payload, "token", MAX_TOKEN_BYTES))

    def _verify_signature(self, signed: str, signature: bytes) -> None:
        if len(signature) != 2 * _COORDINATE_BYTES:
            raise FormatError("token.signature", "not an ES256 signature")
        r = int.from_bytes(signature[:_COORDINATE_BYTES], "big")
        s = int.from_bytes(signature[_COORDINATE_BYTES:], "big")
        try:
            self._key.public_key().verify(
                encode_dss_signature(r, s), signed.encode("utf-8"), ec.ECDSA(SHA256())
            )
        except InvalidSignature as error:
            raise VerificationError("token.signature", "the signature is not ours") from error

    def _read(self, claims: JsonValue) -> Attested:
        if not isinstance(claims, Mapping):
            raise FormatError("token.claims", "not an object")
        now, issued, expires = self._clock(), claims.get("iat"), claims.get("exp")
        if not isinstance(expires, int) or expires <= now:
            raise VerificationError("token.expired", "the token has expired")
        # Issued while our clock was ahead: the token would live longer by as much.
        if not isinstance(issued, int) or issued > now + _CLOCK_STEP_SECONDS:
            raise VerificationError("token.issued", "the token's time of issue is in the future")
        with Fields(claims.get("ccinit"), "token.ccinit") as fields:
            if not fields.has("basis"):
                raise FormatError("token.ccinit.basis", "missing")
            return Attested(
                label=fields.text("session"),
                tee=fields.choice("tee", Tee),
                subject=Subject(
                    reference=fields.text("reference"),
                    image=fields.text("image"),
                    profile=fields.choice("profile", Profile),
                    initdata_name=fields.text("initdata_name"),
                    initdata_digest=parse_digest(fields.text("initdata"), "token.ccinit.initdata"),
                    devices=frozenset(fields.texts("devices")),
                ),
                tee_pubkey=parse_jwk(claims.get("tee-pubkey")),
                basis=frozenset(fields.texts("basis")),
            )


def _private_claims(attested: Attested) -> dict[str, JsonValue]:
    subject = attested.subject
    return {
        "session": attested.label,
        "tee": attested.tee.value,
        "reference": subject.reference,
        "image": subject.image,
        "profile": subject.profile.value,
        "initdata_name": subject.initdata_name,
        "initdata": str(subject.initdata_digest),
        "devices": sorted(subject.devices),
        "basis": sorted(attested.basis),
    }


def _submodule(
    evidence: AppraisedEvidence, attested: Attested, nonce: Nonce
) -> dict[str, JsonValue]:
    return {
        "ear.status": "affirming",
        "ear.trustworthiness-vector": _TRUST_VECTOR,
        "ear.appraisal-policy-id": "default",
        "ear.veraison.annotated-evidence": {
            attested.tee.value: evidence.token_claims,
            "report_data": evidence.report_data.hex(),
            "init_data": evidence.initdata_field.hex(),
            "init_data_claims": {"digest": str(evidence.initdata.digest)},
            "runtime_data_claims": {
                "nonce": nonce,
                "tee-pubkey": attested.tee_pubkey.to_json_object(),
                "additional-evidence": evidence.additional_evidence,
            },
        },
    }


def _devices(evidence: AppraisedEvidence) -> dict[str, JsonValue]:
    """Return a submodule for each device; Trustee's class of all present kinds is `gpu`."""
    return {
        f"gpu{number}": {
            "ear.status": "none",  # such a device claims nothing
            "ear.trustworthiness-vector": dict.fromkeys(_TRUST_VECTOR, 0),
            "ear.appraisal-policy-id": "default",
            "ear.veraison.annotated-evidence": {device.name: device.token_claims},
        }
        for number, device in enumerate(evidence.devices)
    }


def _encode(value: Mapping[str, JsonValue]) -> str:
    return encode_base64url(json.dumps(value, separators=(",", ":")).encode("ascii"))
