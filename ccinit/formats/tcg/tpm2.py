"""TPM 2.0 commands and structures that attestation needs, as bytes and frozen values.

Commands: PCR_Read, PCR_Extend, Quote and ReadPublic (TPM 2.0 Library, part 3, sections 22.4, 22.2,
18.4 and 12.4). Structures: TPMS_ATTEST of a quote, TPMT_SIGNATURE with RSASSA, TPMT_PUBLIC of an
RSA key (part 2, sections 10.12.12, 11.3.4 and 12.2.4). Everything is big-endian; every parser wants
its input to end exactly where the structure ends. `tpm_commands` has the commands as calls; the
verifier checks signatures and whether a key is known.
"""

import hashlib
import struct
from enum import IntEnum, IntFlag

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2_frames import (
    EMPTY_AUTHORIZATION,
    TAG_NO_SESSIONS,
    TAG_SESSIONS,
    Reader,
    encode_command,
    open_response,
    open_sessions,
)
from ccinit.values import frozen

PCR_COUNT = 24
DIGEST_BYTES = 32
MAX_PCRS_PER_READ = 8  # TPML_DIGEST holds eight

_GENERATED = 0xFF544347  # TPM_GENERATED_VALUE
_ATTEST_QUOTE = 0x8018  # TPM_ST_ATTEST_QUOTE
_NULL = 0x0010  # TPM_ALG_NULL


class Algorithm(IntEnum):
    """TPM_ALG_ID (part 2, section 6.3), the ones that are accepted."""

    RSA = 0x0001
    SHA256 = 0x000B
    RSASSA = 0x0014


class ObjectAttribute(IntFlag):
    """TPMA_OBJECT (part 2, section 8.3)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18
    X509_SIGN = 1 << 19


# What makes a key an attestation key: it signs only what this TPM made, and never leaves it.
ATTESTATION_KEY_ATTRIBUTES = (
    ObjectAttribute.FIXED_TPM | ObjectAttribute.RESTRICTED | ObjectAttribute.SIGN_ENCRYPT
)


@frozen
class PcrSelection:
    """TPMS_PCR_SELECTION: which PCRs (ascending numbers, 0 to 23) of which bank."""

    algorithm: Algorithm
    pcrs: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Encode as a TPML_PCR_SELECTION of one bank with a three-byte map."""
        bitmap = sum(1 << pcr for pcr in self.pcrs)
        return struct.pack(">IHB", 1, self.algorithm, 3) + bitmap.to_bytes(3, "little")


ALL_SHA256_PCRS = PcrSelection(algorithm=Algorithm.SHA256, pcrs=tuple(range(PCR_COUNT)))


@frozen
class TpmsAttest:
    """What a verifier needs of the TPMS_ATTEST of a quote.

    Attributes:
        extra_data: the verifier's fresh data, up to 64 bytes.
    """

    extra_data: bytes
    pcr_selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@frozen
class TpmtPublic:
    """TPMT_PUBLIC of an RSA key; `name` is computed from the encoded structure."""

    attributes: ObjectAttribute
    modulus: bytes
    exponent: int
    name: bytes


@frozen
class PcrValues:
    """Reply of PCR_Read: the PCRs that the TPM chose to return, and their values."""

    selections: tuple[PcrSelection, ...]
    values: tuple[bytes, ...]


@frozen
class Quote:
    """Reply of Quote: the encoded TPMS_ATTEST and TPMT_SIGNATURE, not yet parsed."""

    message: bytes
    signature: bytes


def encode_pcr_read(selection: PcrSelection) -> bytes:
    """Encode TPM2_PCR_Read; the reply may hold fewer PCRs than were asked for."""
    return encode_command(TAG_NO_SESSIONS, 0x17E, selection.to_bytes())


def encode_pcr_extend(pcr: int, digest: bytes) -> bytes:
    """Encode TPM2_PCR_Extend of the SHA-256 bank with a 32-byte digest.

    Raises:
        FormatError: `tpm2.pcr`, not within 0 to 23; `tpm2.digest`.
    """
    if not 0 <= pcr < PCR_COUNT:
        raise FormatError("tpm2.pcr", f"expected a PCR of 0 to 23, found {pcr}")
    if len(digest) != DIGEST_BYTES:
        raise FormatError("tpm2.digest", f"expected 32 bytes, found {len(digest)}")
    values = struct.pack(">IH", 1, Algorithm.SHA256) + digest
    return encode_command(
        TAG_SESSIONS, 0x182, struct.pack(">I", pcr) + EMPTY_AUTHORIZATION + values
    )


def encode_quote(key_handle: int, extra_data: bytes, selection: PcrSelection) -> bytes:
    """Encode TPM2_Quote with the key's own scheme; `extra_data` is 1 to 64 bytes.

    Raises:
        FormatError: `tpm2.extra_data`.
    """
    if not 1 <= len(extra_data) <= 64:
        raise FormatError("tpm2.extra_data", f"expected 1 to 64 bytes, found {len(extra_data)}")
    return encode_command(
        TAG_SESSIONS,
        0x158,
        struct.pack(">I", key_handle)
        + EMPTY_AUTHORIZATION
        + struct.pack(">H", len(extra_data))
        + extra_data
        + struct.pack(">H", _NULL)
        + selection.to_bytes(),
    )


def encode_read_public(handle: int) -> bytes:
    """Encode TPM2_ReadPublic."""
    return encode_command(TAG_NO_SESSIONS, 0x173, struct.pack(">I", handle))


def parse_pcr_read(response: bytes) -> PcrValues:
    """Read the reply of TPM2_PCR_Read; one 32-byte value for each selected PCR.

    Raises:
        FormatError: `tpm2.pcr_count`, `tpm2.digest`; `tpm2.…` of its form.
    """
    reader = open_response(response, TAG_NO_SESSIONS)
    reader.u32()  # the count of updates; a quote shows whether the values are of one moment
    selections = _pcr_selections(reader)
    count = reader.u32()
    expected = sum(len(selection.pcrs) for selection in selections)
    if count != expected or count > MAX_PCRS_PER_READ:
        raise FormatError("tpm2.pcr_count", f"{count} values for {expected} PCRs")
    values = tuple(reader.sized() for _ in range(count))
    if any(len(value) != DIGEST_BYTES for value in values):
        raise FormatError("tpm2.digest", "a SHA-256 PCR has 32 bytes")
    reader.end()
    return PcrValues(selections=selections, values=values)


def parse_pcr_extend(response: bytes) -> None:
    """Check the reply of TPM2_PCR_Extend, which has no parameters."""
    open_sessions(response).end()


def parse_quote(response: bytes) -> Quote:
    """Read the reply of TPM2_Quote."""
    parameters = open_sessions(response)
    message = parameters.sized()
    return Quote(message=message, signature=parameters.rest())


def parse_read_public(response: bytes) -> TpmtPublic:
    """Read the reply of TPM2_ReadPublic; the TPM's own name must be the computed one.

    Raises:
        FormatError: `tpm2.name`; as `parse_tpmt_public`; `tpm2.…` of its form.
    """
    reader = open_response(response, TAG_NO_SESSIONS)
    public = parse_tpmt_public(reader.sized())
    name = reader.sized()
    reader.sized()  # the qualified name: there is nothing to compare it with
    reader.end()
    if name != public.name:
        raise FormatError("tpm2.name", "the name is not the hash of the public area")
    return public


def parse_tpms_attest(data: bytes) -> TpmsAttest:
    """Read a TPMS_ATTEST; anything but a quote made by a TPM is refused.

    Raises:
        FormatError: `tpm2.magic`, `tpm2.type`; `tpm2.…` of its form.
    """
    reader = Reader(data)
    if reader.u32() != _GENERATED:
        raise FormatError("tpm2.magic", "not generated by a TPM")
    if reader.u16() != _ATTEST_QUOTE:
        raise FormatError("tpm2.type", "the attestation is not a quote")
    reader.sized()  # the signer's qualified name: there is nothing to compare it with
    extra_data = reader.sized()
    _take_clock_info(reader)
    reader.u64()  # the firmware's version, which has no common meaning
    attest = TpmsAttest(
        extra_data=extra_data,
        pcr_selections=_pcr_selections(reader),
        pcr_digest=reader.sized(),
    )
    reader.end()
    return attest


def parse_tpmt_signature(data: bytes) -> bytes:
    """Return the signature in a TPMT_SIGNATURE; only RSASSA (PKCS #1 v1.5) with SHA-256 is known.

    Raises:
        FormatError: `tpm2.signature_scheme`, `tpm2.signature_hash`; `tpm2.…` of its form.
    """
    reader = Reader(data)
    if reader.u16() != Algorithm.RSASSA:
        raise FormatError("tpm2.signature_scheme", "the signature is not RSASSA")
    if reader.u16() != Algorithm.SHA256:
        raise FormatError("tpm2.signature_hash", "the signature is not over SHA-256")
    signature = reader.sized()
    reader.end()
    return signature


def parse_tpmt_public(data: bytes) -> TpmtPublic:
    """Read a TPMT_PUBLIC; only RSA keys named by SHA-256 are known.

    Raises:
        FormatError: `tpm2.key_type`, `tpm2.name_algorithm`, `tpm2.modulus`; `tpm2.…` of its form.
    """
    reader = Reader(data)
    if reader.u16() != Algorithm.RSA:
        raise FormatError("tpm2.key_type", "the key is not RSA")
    if reader.u16() != Algorithm.SHA256:
        raise FormatError("tpm2.name_algorithm", "the name is not a SHA-256")
    attributes = ObjectAttribute(reader.u32())
    reader.sized()  # authPolicy: who may use the key matters only to its owner
    if reader.u16() != _NULL:  # symmetric, only in storage keys; keyBits and mode follow
        reader.take(4)
    if reader.u16() != _NULL:  # scheme: its hash follows
        reader.take(2)
    bits = reader.u16()
    exponent = reader.u32() or 65537  # 0 stands for the default exponent
    modulus = reader.sized()
    reader.end()
    if len(modulus) * 8 != bits or not modulus or not modulus[0] & 0x80:
        raise FormatError("tpm2.modulus", f"{len(modulus)} bytes for a key of {bits} bits")
    name = struct.pack(">H", Algorithm.SHA256) + hashlib.sha256(data).digest()
    return TpmtPublic(attributes=attributes, modulus=modulus, exponent=exponent, name=name)


def _take_clock_info(reader: Reader) -> None:
    """Skip a TPMS_CLOCK_INFO: clock, resets, restarts, and whether the clock is safe."""
    reader.take(8 + 4 + 4)
    safe = reader.take(1)[0]
    if safe > 1:
        raise FormatError("tpm2.yes_no", f"TPMI_YES_NO is {safe}")


def _pcr_selections(reader: Reader) -> tuple[PcrSelection, ...]:
    """Read a TPML_PCR_SELECTION of at most one bank, which has to be SHA-256."""
    count = reader.u32()
    if count > 1:
        raise FormatError("tpm2.banks", f"expected at most one bank, found {count}")
    selections = []
    for _ in range(count):
        if reader.u16() != Algorithm.SHA256:
            raise FormatError("tpm2.bank", "the bank is not SHA-256")
        bitmap = int.from_bytes(reader.take(reader.take(1)[0]), "little")
        if bitmap >> PCR_COUNT:
            raise FormatError("tpm2.pcr", "a PCR beyond 23 is selected")
        pcrs = tuple(pcr for pcr in range(PCR_COUNT) if bitmap >> pcr & 1)
        selections.append(PcrSelection(algorithm=Algorithm.SHA256, pcrs=pcrs))
    return tuple(selections)
