"""The `tpm` evidence: a quote over all SHA-256 PCRs, their values and the key that signed it.

The JSON is that of Trustee's `tpm` verifier: `{"tpm_quote": {"signature", "message", "pcrs"},
"ak_public"}`, binary parts in standard base64, PCR values in lower-case hex. The quote's parts stay
encoded as the TPM made them, since the signature covers those bytes; `ccinit.formats.tcg.tpm2`
decodes them. Judging them is left to the verifier.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.hexadecimal import decode_hex
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, encode_base64, members
from ccinit.formats.tcg.tpm2 import DIGEST_BYTES, PCR_COUNT
from ccinit.values import frozen

MAX_PART_BYTES = 4096

# AlgorithmIdentifier { rsaEncryption, NULL } of RFC 3279 section 2.3.1.
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")


@frozen
class TpmEvidence:
    """One quote.

    Attributes:
        message: encoded TPMS_ATTEST.
        signature: encoded TPMT_SIGNATURE over `message`.
        pcrs: the 24 values of the SHA-256 bank, 32 bytes each.
        ak_public_der: the attestation key as DER SubjectPublicKeyInfo.
    """

    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]
    ak_public_der: bytes

    def __post_init__(self) -> None:
        if len(self.pcrs) != PCR_COUNT:
            raise FormatError("tpm_evidence.pcrs", f"expected 24 values, found {len(self.pcrs)}")
        if any(len(value) != DIGEST_BYTES for value in self.pcrs):
            raise FormatError("tpm_evidence.pcrs", "a SHA-256 PCR has 32 bytes")

    def to_json_value(self) -> dict[str, JsonValue]:
        """Return the evidence as Trustee's `tpm` verifier reads it."""
        return {
            "tpm_quote": {
                "signature": encode_base64(self.signature),
                "message": encode_base64(self.message),
                "pcrs": [value.hex() for value in self.pcrs],
            },
            "ak_public": encode_base64(self.ak_public_der),
        }


def parse_tpm_evidence(value: JsonValue) -> TpmEvidence:
    """Read `tpm` evidence; missing and unknown members are refused.

    Raises:
        FormatError: `tpm_evidence.…`.
    """
    evidence = members(value, frozenset(("tpm_quote", "ak_public")), "tpm_evidence")
    quote = members(
        evidence["tpm_quote"], frozenset(("signature", "message", "pcrs")), "tpm_evidence"
    )
    pcrs = quote["pcrs"]
    if not isinstance(pcrs, list):
        raise FormatError("tpm_evidence.pcrs", "expected an array")
    return TpmEvidence(
        message=decode_base64(quote["message"], "tpm_evidence.message", 1, MAX_PART_BYTES),
        signature=decode_base64(quote["signature"], "tpm_evidence.signature", 1, MAX_PART_BYTES),
        pcrs=tuple(decode_hex(text, DIGEST_BYTES, "tpm_evidence.pcrs") for text in pcrs),
        ak_public_der=decode_base64(
            evidence["ak_public"], "tpm_evidence.ak_public", 1, MAX_PART_BYTES
        ),
    )


def encode_rsa_public_key(modulus: bytes, exponent: int) -> bytes:
    """Encode an RSA key as DER SubjectPublicKeyInfo (RFC 5280 section 4.1, RFC 8017 A.1.1)."""
    digits = exponent.to_bytes((exponent.bit_length() + 7) // 8, "big")
    key = _der(0x30, _der_integer(modulus) + _der_integer(digits))
    return _der(0x30, _RSA_ALGORITHM + _der(0x03, b"\0" + key))


def _der_integer(magnitude: bytes) -> bytes:
    digits = magnitude.lstrip(b"\0") or b"\0"
    return _der(0x02, b"\0" + digits if digits[0] & 0x80 else digits)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content
