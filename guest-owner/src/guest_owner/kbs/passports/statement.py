"""What the tokens of each service say about a guest, in one form for all of them.

* Azure Attestation: claims `x-ms-…` and, of TDX, `tdx_…` at the top (Microsoft Learn, "Claim sets",
  "Examples of an attestation token"); types `sevsnpvm` and `tdxvm`. Report data: SHA-256 of the
  runtime data, then zeros.
* Intel Trust Authority: version 1 of its tokens has the claims of TDX at the top, version 2 has
  them under `tdx`, and those of SEV-SNP under `sevsnp` (Intel, "Attestation tokens and claims").
  Report data: SHA-512 of the verifier's nonce (`val`, `iat`) and the runtime data.

Runtime data is the canonical text that `ccinit.formats.kbs.passport` makes, an object with the
guest's key and nothing else; both services repeat it as an object. A token about an Azure VM
(`azurevm`: type `AzureGuest`) is refused: it shows no PCR 4, 8, 9 and 11, so neither image nor pod.

A missing claim is None in a statement, and every judge of it refuses None; a claim of another type
is a FormatError. Values are those of the platform's own report.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, members
from ccinit.formats.evidence.snp_report import TcbVersion
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import PublicJwk, parse_jwk
from guest_owner.kbs.passports.issuer import Service

Claims = Mapping[str, JsonValue]

_REPORT_DATA_BYTES = 64
_MAX_TEXT = 256
_ATTESTERS = {"tdx": Tee.TDX, "sevsnp": Tee.SNP}  # members of Intel's tokens of version 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpStatement:
    """Fields of a report of SEV-SNP; `tcb` is the reported firmware."""

    measurement: bytes | None
    host_data: bytes | None
    report_data: bytes | None
    debug: bool | None
    migration: bool | None
    smt: bool | None
    vmpl: int | None
    tcb: TcbVersion | None
    id_key_digest: bytes | None
    author_key_digest: bytes | None
    family_id: bytes | None
    image_id: bytes | None
    guest_svn: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxStatement:
    """Fields of a TD report; `rtmrs` are RTMR 1 and 2, `tcb_status` the machine's."""

    mrtd: bytes | None
    rtmrs: Mapping[int, bytes | None]
    mrconfigid: bytes | None
    mrowner: bytes | None
    mrownerconfig: bytes | None
    mrseam: bytes | None
    mrsignerseam: bytes | None
    seam_attributes: bytes | None
    report_data: bytes | None
    td_attributes: bytes | None
    xfam: bytes | None
    debug: bool | None
    tee_tcb_svn: bytes | None
    tcb_status: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one token states.

    Attributes:
        about: what it says about the platform.
        tee_pubkey: the guest's key, for which it was issued.
        bound: the report data that binds this key.
        policies: those that the service has applied.
    """

    about: SnpStatement | TdxStatement
    tee_pubkey: PublicJwk
    bound: bytes
    policies: frozenset[str]

    @property
    def tee(self) -> Tee:
        """The platform."""
        return Tee.SNP if isinstance(self.about, SnpStatement) else Tee.TDX


def read_statement(service: Service, claims: Claims) -> Statement:
    """Read the claims of a verified token.

    Raises:
        FormatError: `passport.…`, `jwk.…`.
        VerificationError: `passport.platform`, a platform that tokens do not say enough about.
    """
    match service:
        case Service.AZURE:
            return _read_azure(claims)
        case Service.INTEL:
            return _read_intel(claims)


def _read_azure(claims: Claims) -> Statement:
    if claims.get("x-ms-ver") != "1.0":
        raise FormatError("passport.version", "expected x-ms-ver 1.0")
    runtime = claims.get("x-ms-runtime")
    key, text = _read_runtime(runtime)
    about: SnpStatement | TdxStatement
    match claims.get("x-ms-attestation-type"):
        case "sevsnpvm":
            about = _read_snp(claims, "x-ms-sevsnpvm-", "-")
        case "tdxvm":
            about = _read_tdx(claims)
        case other:
            raise VerificationError(
                "passport.platform", f"{str(other)[:40]!r} is neither sevsnpvm nor tdxvm"
            )
    policy = _text(claims, "x-ms-policy-hash")
    return Statement(
        about=about,
        tee_pubkey=key,
        bound=hashlib.sha256(text).digest().ljust(_REPORT_DATA_BYTES, b"\0"),
        policies=frozenset(() if policy is None else (policy,)),
    )


def _read_intel(claims: Claims) -> Statement:
    attester, kind = _find_attester(claims)
    name = "sevsnp_runtime_data" if kind is Tee.SNP else "attester_runtime_data"
    key, text = _read_runtime(attester.get(name))
    nonce = members(
        attester.get("verifier_nonce", claims.get("verifier_nonce")),
        frozenset(("val", "iat", "signature")),
        "passport.nonce",
    )
    parts = (decode_base64(nonce[part], "passport.nonce") for part in ("val", "iat"))
    return Statement(
        about=_read_snp(attester, "sevsnp_", "_") if kind is Tee.SNP else _read_tdx(attester),
        tee_pubkey=key,
        bound=hashlib.sha512(b"".join(parts) + text).digest(),
        policies=_matched_policies(claims),
    )


def _find_attester(claims: Claims) -> tuple[Claims, Tee]:
    match claims.get("ver"):
        case "1.0.0":
            return claims, Tee.TDX
        case "2.0.0":
            found = {tee: claims[name] for name, tee in _ATTESTERS.items() if name in claims}
        case _:
            raise FormatError("passport.version", "expected ver 1.0.0 or 2.0.0")
    if len(found) != 1:
        raise VerificationError("passport.platform", "expected one of tdx and sevsnp")
    ((tee, value),) = found.items()
    if not isinstance(value, Mapping):
        raise FormatError("passport.claims", f"{tee}: not an object")
    return value, tee


def _matched_policies(claims: Claims) -> frozenset[str]:
    matched = claims.get("policy_ids_matched") or []
    if not isinstance(matched, list):
        raise FormatError("passport.claims", "policy_ids_matched: not a list")
    ids = [policy.get("id") for policy in matched if isinstance(policy, Mapping)]
    return frozenset(known for known in ids if isinstance(known, str))


def _read_runtime(value: JsonValue) -> tuple[PublicJwk, bytes]:
    """Return the guest's key, and the text that its report data is made of."""
    runtime = members(value, frozenset(("tee-pubkey",)), "passport.runtime_data")
    key = parse_jwk(runtime["tee-pubkey"])
    return key, canonical_json({"tee-pubkey": key.to_json_object()})


def _read_snp(claims: Claims, prefix: str, joint: str) -> SnpStatement:
    def name(*words: str) -> str:
        return prefix + joint.join(words)

    parts = [
        _integer(claims, name(part, "svn")) for part in ("bootloader", "tee", "snpfw", "microcode")
    ]
    return SnpStatement(
        measurement=_bytes(claims, name("launchmeasurement"), 48),
        host_data=_bytes(claims, name("hostdata"), 32),
        report_data=_bytes(claims, name("reportdata"), _REPORT_DATA_BYTES),
        debug=_boolean(claims, name("is", "debuggable")),
        migration=_boolean(claims, name("migration", "allowed")),
        smt=_boolean(claims, name("smt", "allowed")),
        vmpl=_integer(claims, name("vmpl")),
        tcb=_tcb(parts),
        id_key_digest=_bytes(claims, name("idkeydigest"), 48),
        author_key_digest=_bytes(claims, name("authorkeydigest"), 48),
        family_id=_bytes(claims, name("familyId"), 16),
        image_id=_bytes(claims, name("imageId"), 16),
        guest_svn=_integer(claims, name("guestsvn")),
    )


def _tcb(parts: list[int | None]) -> TcbVersion | None:
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return None
    bootloader, tee, snp, microcode = known
    return TcbVersion(fmc=None, bootloader=bootloader, tee=tee, snp=snp, microcode=microcode)


def _read_tdx(claims: Claims) -> TdxStatement:
    return TdxStatement(
        mrtd=_bytes(claims, "tdx_mrtd", 48),
        rtmrs={index: _bytes(claims, f"tdx_rtmr{index}", 48) for index in (1, 2)},
        mrconfigid=_bytes(claims, "tdx_mrconfigid", 48),
        mrowner=_bytes(claims, "tdx_mrowner", 48),
        mrownerconfig=_bytes(claims, "tdx_mrownerconfig", 48),
        mrseam=_bytes(claims, "tdx_mrseam", 48),
        mrsignerseam=_bytes(claims, "tdx_mrsignerseam", 48),
        seam_attributes=_bytes(claims, "tdx_seam_attributes", 8),
        report_data=_bytes(claims, "tdx_report_data", _REPORT_DATA_BYTES),
        td_attributes=_bytes(claims, "tdx_td_attributes", 8),
        xfam=_bytes(claims, "tdx_xfam", 8),
        debug=_boolean(claims, "tdx_td_attributes_debug"),
        tee_tcb_svn=_bytes(claims, "tdx_tee_tcb_svn", 16),
        tcb_status=_text(claims, "attester_tcb_status"),
    )


def _bytes(claims: Claims, name: str, size: int) -> bytes | None:
    text = _text(claims, name)
    if text is None:
        return None
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or len(text) != 2 * size:
        raise FormatError("passport.claims", f"{name}: expected {2 * size} hex digits")
    return value


def _text(claims: Claims, name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise FormatError("passport.claims", f"{name}: expected a short text")
    return value


def _boolean(claims: Claims, name: str) -> bool | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, bool):
        raise FormatError("passport.claims", f"{name}: expected true or false")
    return value


def _integer(claims: Claims, name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FormatError("passport.claims", f"{name}: expected a number")
    return value
