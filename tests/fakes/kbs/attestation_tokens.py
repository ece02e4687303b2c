"""Tokens as Azure Attestation and Intel Trust Authority issue them, laid out from their examples.

Claims come from the raw report or quote by the offsets of AMD's and Intel's tables, so that nothing
of the project is its own witness; the signature is made with `cryptography` directly.
"""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fakes.platforms.snp import FIELDS

AZURE = "https://shop.eus.attest.azure.example"
INTEL = "https://portal.trustauthority.example"
POLICY_HASH = "B56nbp5slhw66peoRYkpdq1WykMkEworvdol08hnMXE"
Claims = dict[str, Any]

# Offset in the TD report body, and length (TDX DCAP Quoting Library API, appendix A).
_TDX_FIELDS = {
    "tdx_tee_tcb_svn": (0, 16),
    "tdx_mrseam": (16, 48),
    "tdx_mrsignerseam": (64, 48),
    "tdx_seam_attributes": (112, 8),
    "tdx_td_attributes": (120, 8),
    "tdx_xfam": (128, 8),
    "tdx_mrtd": (136, 48),
    "tdx_mrconfigid": (184, 48),
    "tdx_mrowner": (232, 48),
    "tdx_mrownerconfig": (280, 48),
    **{f"tdx_rtmr{index}": (328 + 48 * index, 48) for index in range(4)},
    "tdx_report_data": (520, 64),
}
_SNP_FIELDS = {
    "measurement": "launchmeasurement",
    "host_data": "hostdata",
    "report_data": "reportdata",
    "id_key_digest": "idkeydigest",
    "author_key_digest": "authorkeydigest",
    "family_id": "familyId",
    "image_id": "imageId",
}


@cache
def issuer_key(label: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key for each label."""
    del label
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass(frozen=True, kw_only=True)
class FakeIssuer:
    """Who signs; `kid` names its key in its set."""

    iss: str = AZURE
    kid: str = "J0pAPdfXXHqWWimgrH853w="
    key_label: str = "issuer"

    @property
    def key(self) -> rsa.RSAPrivateKey:
        return issuer_key(self.key_label)

    def sign(self, claims: Claims, *, algorithm: str = "RS256", **header: object) -> str:
        """Return a token; members of the header may be changed, None leaves one out."""
        members = {"alg": algorithm, "jku": f"{self.iss}/certs", "kid": self.kid, "typ": "JWT"}
        known = {name: value for name, value in (members | header).items() if value is not None}
        signed = f"{_encode(known)}.{_encode(claims)}"
        data = signed.encode()
        if algorithm == "PS384":
            padding = PSS(mgf=MGF1(SHA384()), salt_length=48)
            signature = self.key.sign(data, padding, SHA384())
        else:
            signature = self.key.sign(data, PKCS1v15(), SHA256())
        return f"{signed}.{_base64url(signature)}"

    def key_set(self, *, in_certificate: bool = False) -> bytes:
        """Its set: by numbers, as Intel publishes it, or in a certificate only, as Azure does."""
        numbers = self.key.public_key().public_numbers()
        key: Claims = {"kid": self.kid, "kty": "RSA"}
        if in_certificate:
            key["x5c"] = [base64.b64encode(self._certificate()).decode()]
        else:
            key |= {
                "alg": "PS384",
                "n": _base64url(numbers.n.to_bytes(256, "big")),
                "e": _base64url(numbers.e.to_bytes(3, "big")),
                "x5c": ["MIIE"],
            }
        return json.dumps({"keys": [key]}).encode()

    def _certificate(self) -> bytes:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.iss)])
        start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=1))
        )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


def azure_claims(evidence: bytes, runtime_data: bytes, *, now: int, life: int = 300) -> Claims:
    """What Azure Attestation says about an SNP report or a TDX quote."""
    is_snp = len(evidence) == 1184
    about = snp_claims(evidence, "x-ms-sevsnpvm-", "-") if is_snp else tdx_claims(evidence)
    return {
        **_times(AZURE, now, life),
        "x-ms-attestation-type": "sevsnpvm" if is_snp else "tdxvm",
        "x-ms-compliance-status": "azure-compliant-cvm",
        "x-ms-policy-hash": POLICY_HASH,
        "x-ms-runtime": json.loads(runtime_data),
        "x-ms-ver": "1.0",
        **about,
    }


def intel_claims(
    evidence: bytes,
    runtime_data: bytes,
    nonce: Mapping[str, str],
    *,
    version: int,
    now: int,
    life: int = 300,
    policies: tuple[str, ...] = (),
) -> Claims:
    """What Intel Trust Authority says, at the top (1) or under the kind of attester (2)."""
    common = {
        **_times(INTEL, now, life),
        "eat_profile": f"{INTEL}/eat_profile.html",
        "intuse": "generic",
        "policy_ids_matched": [{"id": one, "version": "v1"} for one in policies] or None,
        "ver": f"{version}.0.0",
    }
    if len(evidence) == 1184:
        about = snp_claims(evidence, "sevsnp_", "_")
        about |= {"attester_type": "AMD SEV-SNP", "sevsnp_runtime_data": json.loads(runtime_data)}
        kind = "sevsnp"
    else:
        about = tdx_claims(evidence)
        about |= {"attester_type": "TDX", "attester_runtime_data": json.loads(runtime_data)}
        kind = "tdx"
    about["verifier_nonce"] = dict(nonce)
    return common | about if version == 1 else common | {kind: about}


def snp_claims(report: bytes, prefix: str, joint: str) -> Claims:
    """The fields of a report of SEV-SNP by their names in a token."""

    def part(name: str) -> bytes:
        offset, size = FIELDS[name]
        return report[offset : offset + size]

    def number(name: str) -> int:
        return int.from_bytes(part(name), "little")

    policy, tcb = number("policy"), part("reported_tcb")
    svns = {"bootloader": tcb[0], "tee": tcb[1], "snpfw": tcb[6], "microcode": tcb[7]}
    return {
        **{prefix + shown: part(name).hex() for name, shown in _SNP_FIELDS.items()},
        **{f"{prefix}{name}{joint}svn": value for name, value in svns.items()},
        f"{prefix}is{joint}debuggable": bool(policy & 1 << 19),
        f"{prefix}migration{joint}allowed": bool(policy & 1 << 18),
        f"{prefix}smt{joint}allowed": bool(policy & 1 << 16),
        f"{prefix}guestsvn": number("guest_svn"),
        f"{prefix}vmpl": number("vmpl"),
    }


def tdx_claims(quote: bytes) -> Claims:
    """The fields of a TDX quote of version 4 by their names in a token."""
    body = quote[48:]
    found = {
        name: body[offset : offset + size].hex() for name, (offset, size) in _TDX_FIELDS.items()
    }
    return {
        **found,
        "attester_tcb_status": "UpToDate",
        "dbgstat": "disabled",
        "tdx_seamsvn": 3,
        "tdx_td_attributes_debug": bool(body[120] & 1),
    }


def azure_report_data(runtime_data: bytes) -> bytes:
    return hashlib.sha256(runtime_data).digest() + bytes(32)


def intel_report_data(nonce: Mapping[str, str], runtime_data: bytes) -> bytes:
    val, iat = (base64.b64decode(nonce[name]) for name in ("val", "iat"))
    return hashlib.sha512(val + iat + runtime_data).digest()


def _times(iss: str, now: int, life: int) -> Claims:
    return {"iss": iss, "iat": now, "nbf": now, "exp": now + life, "jti": "b65da1dcfbb4698b"}


def _encode(value: object) -> str:
    return _base64url(json.dumps(value).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
