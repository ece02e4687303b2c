"""What the tests of passports register, and genuine tokens of each service about each platform."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import PublicJwk
from ccinit.formats.kbs.passport import encode_runtime_data
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.passports.issuer import Issuer, parse_issuer
from guest_owner.kbs.passports.key_set import parse_key_set
from guest_owner.kbs.references.values import References
from tests.fakes.kbs.attestation_tokens import (
    AZURE,
    INTEL,
    Claims,
    FakeIssuer,
    azure_claims,
    azure_report_data,
    intel_claims,
    intel_report_data,
)
from tests.fakes.platforms.tdx_quote import measurement, p256_key
from tests.unit.guest_owner.kbs.snp_values import booted_snp, snp_image
from tests.unit.guest_owner.kbs.values import initdata
from tests.unit.guest_owner.kbs.verifiers.tdx_values import (
    booted_domain,
    tdx_reference,
    tdx_references,
)

NOW = 1_800_000_000
SNP_TABLE = """
[snp]
bootloader = 4
tee = 0
snp = 24
microcode = 219
allow = ["smt"]
"""
TDX_TABLE = f"""
[tdx]
xfam = "00000000000602e7"
td_attributes = "0000000010000000"
mrseam = ["{measurement("TDX module").hex()}"]
tee_tcb_svn = "{(bytes((4, 1, 2)) + bytes(13)).hex()}"
"""
AZURE_TOML = f"""\
version = 1
service = "azure-attestation"
issuer = "{AZURE}"
algorithms = ["RS256"]
"""
INTEL_TOML = f"""\
version = 1
service = "intel-trust-authority"
issuer = "{INTEL}"
algorithms = ["PS384"]
"""
AZURE_SIGNER = FakeIssuer(iss=AZURE)
INTEL_SIGNER = FakeIssuer(iss=INTEL, kid="79d80711", key_label="intel")


def tee_key() -> PublicJwk:
    return public_jwk(p256_key("session").public_key())


def azure_issuer(more: str = "", tables: str = SNP_TABLE + TDX_TABLE) -> Issuer:
    terms = parse_issuer((AZURE_TOML + more + tables).encode())
    keys = parse_key_set(AZURE_SIGNER.key_set(in_certificate=True))
    return Issuer(name="azure", terms=terms, keys=keys)


def intel_issuer(more: str = "", tables: str = SNP_TABLE + TDX_TABLE) -> Issuer:
    terms = parse_issuer((INTEL_TOML + more + tables).encode())
    return Issuer(name="intel", terms=terms, keys=parse_key_set(INTEL_SIGNER.key_set()))


def passport_references() -> References:
    """One image on each platform, one pod; no vendor and no requirements are needed."""
    return References(sets=(snp_image(), tdx_reference()), initdata=both_documents())


def both_documents() -> tuple[Any, ...]:
    """The pod's document as SNP and as TDX hold it."""
    return (initdata(), *(replace(one, name="shop-tdx") for one in tdx_references().initdata))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A form of tokens: who issues it, about which platform."""

    issuer: Callable[[], Issuer]
    signer: FakeIssuer
    algorithm: str
    tee: Tee
    claims: Callable[[], Claims]

    def token(self, **changes: object) -> str:
        """Return a signed token; claims may be changed, None leaves one out."""
        claims = {**self.claims(), **changes}
        known = {name: value for name, value in claims.items() if value is not None}
        return self.signer.sign(known, algorithm=self.algorithm)


def nonce() -> dict[str, str]:
    parts = {"val": b"value", "iat": b"time", "signature": b"signed"}
    return {name: base64.b64encode(part).decode() for name, part in parts.items()}


def azure_about(tee: Tee) -> Claims:
    text = encode_runtime_data(tee_key())
    data = azure_report_data(text)
    evidence = booted_snp().report(data) if tee is Tee.SNP else booted_domain().quote(data)
    return azure_claims(evidence, text, now=NOW - 5)


def intel_about(tee: Tee, version: int) -> Claims:
    text = encode_runtime_data(tee_key())
    data = intel_report_data(nonce(), text)
    evidence = booted_snp().report(data) if tee is Tee.SNP else booted_domain().quote(data)
    return intel_claims(evidence, text, nonce(), version=version, now=NOW - 5, policies=("p1",))


def _azure(tee: Tee) -> Kind:
    return Kind(
        issuer=azure_issuer,
        signer=AZURE_SIGNER,
        algorithm="RS256",
        tee=tee,
        claims=lambda: azure_about(tee),
    )


def _intel(tee: Tee, version: int) -> Kind:
    return Kind(
        issuer=intel_issuer,
        signer=INTEL_SIGNER,
        algorithm="PS384",
        tee=tee,
        claims=lambda: intel_about(tee, version),
    )


KINDS = {
    "azure snp": _azure(Tee.SNP),
    "azure tdx": _azure(Tee.TDX),
    "intel v1 tdx": _intel(Tee.TDX, 1),
    "intel v2 tdx": _intel(Tee.TDX, 2),
    "intel v2 snp": _intel(Tee.SNP, 2),
}
OTHER48, OTHER32 = hashlib.sha384(b"other").hexdigest(), hashlib.sha256(b"other").hexdigest()
