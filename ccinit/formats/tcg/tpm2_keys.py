"""TPM 2.0 commands that show which TPM a key lives in: primary keys and credentials.

CreatePrimary, FlushContext, StartAuthSession, PolicySecret and ActivateCredential (TPM 2.0 Library,
part 3, sections 24.1, 28.4, 11.1, 23.4 and 12.5). The endorsement key is of the TCG's default
template (EK Credential Profile 2.5, L-1: RSA 2048), whose policy asks for the endorsement
hierarchy's empty authorization. The attestation key is a primary key of that hierarchy, too. So
both can be made whenever they are needed, and are the same each time.
"""

import struct
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2 import Algorithm, ObjectAttribute, TpmtPublic, parse_tpmt_public
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

SECRET_BYTES: Final = 32
MAX_CREDENTIAL_BYTES: Final = 512

_ENDORSEMENT, _NULL_HANDLE, _PASSWORD = 0x4000000B, 0x40000007, 0x40000009
_AES, _CFB, _NULL = 0x0006, 0x0043, 0x0010
_POLICY_SESSION = 0x01
_RSA_BITS = 2048
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_EK_ATTRIBUTES: Final = (
    ObjectAttribute.FIXED_TPM
    | ObjectAttribute.FIXED_PARENT
    | ObjectAttribute.SENSITIVE_DATA_ORIGIN
    | ObjectAttribute.ADMIN_WITH_POLICY
    | ObjectAttribute.RESTRICTED
    | ObjectAttribute.DECRYPT
)
_AK_ATTRIBUTES: Final = (
    ObjectAttribute.FIXED_TPM
    | ObjectAttribute.FIXED_PARENT
    | ObjectAttribute.SENSITIVE_DATA_ORIGIN
    | ObjectAttribute.USER_WITH_AUTH
    | ObjectAttribute.RESTRICTED
    | ObjectAttribute.SIGN_ENCRYPT
)

_HEAD = struct.pack(">HH", Algorithm.RSA, Algorithm.SHA256)
_UNIQUE = struct.pack(">H", _RSA_BITS // 8) + bytes(_RSA_BITS // 8)
EK_TEMPLATE: Final = (
    _HEAD
    + struct.pack(">IH", _EK_ATTRIBUTES, len(_EK_POLICY))
    + _EK_POLICY
    + struct.pack(">HHHHHI", _AES, 128, _CFB, _NULL, _RSA_BITS, 0)
    + _UNIQUE
)
AK_TEMPLATE: Final = (
    _HEAD
    + struct.pack(">IH", _AK_ATTRIBUTES, 0)
    + struct.pack(">HHHHI", _NULL, Algorithm.RSASSA, Algorithm.SHA256, _RSA_BITS, 0)
    + _UNIQUE
)
_MODULUS_BYTES = _RSA_BITS // 8


@frozen
class PrimaryKey:
    """A key in the TPM's memory, until its handle is flushed.

    Attributes:
        encoded: its TPMT_PUBLIC as the TPM writes it.
    """

    handle: int
    encoded: bytes


def is_made_from(encoded: bytes, template: bytes) -> bool:
    """Return whether a TPMT_PUBLIC equals a template except for its modulus."""
    return len(encoded) == len(template) and encoded[:-_MODULUS_BYTES] == template[:-_MODULUS_BYTES]


def parse_made_key(encoded: bytes, template: bytes, reason: str) -> TpmtPublic:
    """Read the public part of a key that was made from a template.

    Raises:
        FormatError: with `reason`, it is of another template; `tpm2.…`.
    """
    if not is_made_from(encoded, template):
        raise FormatError(reason, "not a key of its template")
    return parse_tpmt_public(encoded)


def encode_create_primary(template: bytes) -> bytes:
    """Encode TPM2_CreatePrimary in the endorsement hierarchy, with empty authorizations."""
    sensitive = struct.pack(">HHH", 4, 0, 0)
    outside, pcrs = struct.pack(">H", 0), struct.pack(">I", 0)
    return encode_command(
        TAG_SESSIONS,
        0x131,
        struct.pack(">I", _ENDORSEMENT)
        + EMPTY_AUTHORIZATION
        + sensitive
        + struct.pack(">H", len(template))
        + template
        + outside
        + pcrs,
    )


def parse_create_primary(response: bytes) -> PrimaryKey:
    """Read its reply; the creation data are skipped."""
    handle, parameters = _open_with_handle(response)
    encoded = parameters.sized()
    parse_tpmt_public(encoded)
    return PrimaryKey(handle=handle, encoded=encoded)


def encode_flush(handle: int) -> bytes:
    """Encode TPM2_FlushContext."""
    return encode_command(TAG_NO_SESSIONS, 0x165, struct.pack(">I", handle))


def parse_flush(response: bytes) -> None:
    """Check its reply, which has no parameters."""
    open_response(response, TAG_NO_SESSIONS).end()


def encode_start_policy(nonce: bytes) -> bytes:
    """Encode TPM2_StartAuthSession for a policy, unsalted and unbound; `nonce` is 32 bytes."""
    return encode_command(
        TAG_NO_SESSIONS,
        0x176,
        struct.pack(">IIH", _NULL_HANDLE, _NULL_HANDLE, len(nonce))
        + nonce
        + struct.pack(">HBHH", 0, _POLICY_SESSION, _NULL, Algorithm.SHA256),
    )


def parse_start_policy(response: bytes) -> int:
    """Read its reply; return the session's handle."""
    reader = open_response(response, TAG_NO_SESSIONS)
    handle = reader.u32()
    reader.sized()
    reader.end()
    return handle


def encode_endorsement_policy(session: int) -> bytes:
    """Encode TPM2_PolicySecret with the endorsement hierarchy's empty authorization."""
    empty = struct.pack(">HHHi", 0, 0, 0, 0)  # nonceTPM, cpHashA, policyRef, expiration
    handles = struct.pack(">II", _ENDORSEMENT, session)
    return encode_command(TAG_SESSIONS, 0x151, handles + EMPTY_AUTHORIZATION + empty)


def parse_endorsement_policy(response: bytes) -> None:
    """Check its reply; its timeout and ticket are skipped."""
    reader = open_sessions(response)
    reader.sized()
    reader.rest()


def encode_activate_credential(
    key: int, endorsement_key: int, session: int, blob: bytes, secret: bytes
) -> bytes:
    """Encode TPM2_ActivateCredential: `key` with empty authorization, the other by its policy."""
    authorizations = struct.pack(">IHBH", _PASSWORD, 0, 0, 0) + struct.pack(
        ">IHBH", session, 0, 1, 0
    )
    return encode_command(
        TAG_SESSIONS,
        0x147,
        struct.pack(">III", key, endorsement_key, len(authorizations))
        + authorizations
        + struct.pack(">H", len(blob))
        + blob
        + struct.pack(">H", len(secret))
        + secret,
    )


def parse_activate_credential(response: bytes) -> bytes:
    """Read its reply; return the secret that the credential holds."""
    reader = open_response(response, TAG_SESSIONS)
    parameters = Reader(reader.take(reader.u32()))
    secret = parameters.sized()
    parameters.end()
    return secret


def _open_with_handle(response: bytes) -> tuple[int, Reader]:
    reader = open_response(response, TAG_SESSIONS)
    handle = reader.u32()
    return handle, Reader(reader.take(reader.u32()))
