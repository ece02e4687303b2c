"""The report that Azure's paravisor keeps in its vTPM: hardware evidence around the vTPM's keys.

Azure's documentation ("Guest attestation for confidential VMs", attestation report format) and the
paravisor's source (`openhcl_attestation_protocol`):

    header      32 bytes: signature "HCLA", version, size, request type, status, 12 reserved
    hardware    1184 bytes: an SNP attestation report, or a TD report of 1024
    runtime     data size, version, report type, hash type, size of the claims (each 32 bits)
    claims      JSON: "keys" (JWK: HCLAkPub signs the quotes), "user-data" in hex, the VM's settings

Little-endian. The NV index has a fixed size: bytes after the claims, and after a TD report, are
unused. The hardware's report data begins with the hash of the claims, so these stay encoded here.
The verifier checks whether the hardware vouches for them.
"""

import hashlib
import struct
from collections.abc import Mapping
from enum import IntEnum

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64url, parse_json
from ccinit.values import frozen

MAX_REPORT_BYTES = 8 * 1024
TD_REPORT_BYTES = 1024
USER_DATA_BYTES = 64

_HEADER = struct.Struct("<4sIIII12s")
_RUNTIME = struct.Struct("<IIIII")
_HARDWARE_AREA_BYTES = 1184
_SIGNATURE = b"HCLA"
_SHA256 = 1
_AK_NAME = "HCLAkPub"


class HardwareKind(IntEnum):
    """What made the hardware part."""

    SNP = 2
    TDX = 4


HARDWARE_BYTES = {HardwareKind.SNP: 1184, HardwareKind.TDX: TD_REPORT_BYTES}
"""Length of the hardware's report."""


@frozen
class HclReport:
    """One report.

    Attributes:
        hardware: the SNP attestation report or the TD report, in its own length.
        claims: the JSON text, as the hardware's report data hashes it.
        ak_modulus, ak_exponent: the RSA key that signs this vTPM's quotes; big-endian modulus.
        user_data: the 64 bytes that the guest put into the vTPM before; empty if it did not.
    """

    kind: HardwareKind
    hardware: bytes
    claims: bytes
    ak_modulus: bytes
    ak_exponent: int
    user_data: bytes

    @property
    def claims_digest(self) -> bytes:
        """SHA-256 of the claims, which the first 32 bytes of report data must be."""
        return hashlib.sha256(self.claims).digest()


def parse_hcl_report(data: bytes) -> HclReport:
    """Read a report.

    Raises:
        FormatError: `hcl.…`.
        LimitExceededError: `hcl.size`.
    """
    if len(data) > MAX_REPORT_BYTES:
        raise LimitExceededError(
            "hcl.size", f"expected at most {MAX_REPORT_BYTES} bytes, found {len(data)}"
        )
    runtime_at = _HEADER.size + _HARDWARE_AREA_BYTES
    claims_at = runtime_at + _RUNTIME.size
    if len(data) < claims_at:
        raise FormatError("hcl.truncated", f"{len(data)} bytes, the fixed part has {claims_at}")
    signature, *_rest = _HEADER.unpack_from(data)
    if signature != _SIGNATURE:
        raise FormatError("hcl.signature", "does not begin with HCLA")
    _size, _version, report_type, hash_type, claims_bytes = _RUNTIME.unpack_from(data, runtime_at)
    kind = _kind(report_type)
    if hash_type != _SHA256:
        raise FormatError("hcl.hash", f"hash type {hash_type}, only SHA-256 is accepted")
    if claims_bytes > len(data) - claims_at:
        raise FormatError("hcl.truncated", f"claims of {claims_bytes} bytes reach beyond the end")
    claims = data[claims_at : claims_at + claims_bytes]
    modulus, exponent, user_data = _read_claims(claims)
    return HclReport(
        kind=kind,
        hardware=data[_HEADER.size : _HEADER.size + HARDWARE_BYTES[kind]],
        claims=claims,
        ak_modulus=modulus,
        ak_exponent=exponent,
        user_data=user_data,
    )


def _kind(report_type: int) -> HardwareKind:
    try:
        return HardwareKind(report_type)
    except ValueError as error:
        raise FormatError("hcl.report_type", f"report type {report_type}") from error


def _read_claims(text: bytes) -> tuple[bytes, int, bytes]:
    """Return the key's modulus and exponent, and the user data.

    Unknown members are accepted, since the hardware vouches for the paravisor's text; those that
    are read must occur once and be well-formed.
    """
    claims = _object(parse_json(text, "hcl.claims", MAX_REPORT_BYTES))
    keys = claims.get("keys")
    if not isinstance(keys, list):
        raise FormatError("hcl.keys", "expected an array of keys")
    found = [key for key in map(_object, keys) if key.get("kid") == _AK_NAME]
    if len(found) != 1 or found[0].get("kty") != "RSA":
        raise FormatError("hcl.keys", f"expected one RSA key {_AK_NAME}")
    modulus = decode_base64url(found[0].get("n"), "hcl.keys")
    exponent = int.from_bytes(decode_base64url(found[0].get("e"), "hcl.keys"), "big")
    return modulus, exponent, _user_data(claims.get("user-data"))


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise FormatError("hcl.claims", "expected an object")
    return value


def _user_data(value: JsonValue) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str) or len(value) != 2 * USER_DATA_BYTES:
        raise FormatError("hcl.user_data", f"expected {2 * USER_DATA_BYTES} hex digits")
    try:
        data = bytes.fromhex(value)
    except ValueError as error:
        raise FormatError("hcl.user_data", "expected hex digits") from error
    if len(data) != USER_DATA_BYTES:  # it skips white space
        raise FormatError("hcl.user_data", "expected hex digits without spaces")
    return data
