"""The frames of TPM 2.0 commands and responses, and a cursor over their fields.

TPM 2.0 Library, part 1, section 18 (command and response structure) and part 3, section 5. Fields
are big-endian; a parser ends with `end`, which refuses bytes that are left. What the fields mean is
left to `tpm2`, `tpm2_keys` and `tpm2_nv`.
"""

import struct

from ccinit.errors import FormatError
from ccinit.formats.encoding.byte_reader import ByteReader

TAG_NO_SESSIONS, TAG_SESSIONS = 0x8001, 0x8002

# One session: the password authorization TPM_RS_PW with an empty password (part 1, section 19.4).
EMPTY_AUTHORIZATION = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)

_HEADER = struct.Struct(">HII")


def encode_command(tag: int, code: int, body: bytes) -> bytes:
    """Put the header before handles, authorization and parameters."""
    return _HEADER.pack(tag, _HEADER.size + len(body), code) + body


def response_code(response: bytes) -> int:
    """Return the response code; the response must have the length that its header states."""
    if len(response) < _HEADER.size:
        raise FormatError("tpm2.header", f"{len(response)} bytes, a header has 10")
    tag, size, code = _HEADER.unpack_from(response)
    if size != len(response):
        raise FormatError("tpm2.size", f"the header says {size}, received {len(response)}")
    if tag not in (TAG_NO_SESSIONS, TAG_SESSIONS):
        raise FormatError("tpm2.tag", f"unknown tag {tag:#06x}")
    return int(code)


class Reader(ByteReader):
    """A cursor over big-endian fields; running out of bytes is `tpm2.truncated`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "tpm2")

    def sized(self) -> bytes:
        """Return the content of a TPM2B: a 16-bit length, then the bytes."""
        return self.take(self.u16())


def open_response(response: bytes, tag: int) -> Reader:
    """Return a cursor after the header of a successful response.

    Raises:
        FormatError: `tpm2.…`.
    """
    code = response_code(response)
    if code:  # TPM_RC_SUCCESS is 0
        raise FormatError("tpm2.response_code", f"the response is an error, {code:#x}")
    reader = Reader(response)
    if reader.u16() != tag:
        raise FormatError("tpm2.tag", "the response has the tag of another command")
    reader.take(8)
    return reader


def open_sessions(response: bytes) -> Reader:
    """Return a cursor over the parameters of a response with sessions; check what follows them.

    For TPM_RS_PW that is an empty nonce, continueSession and an empty HMAC.

    Raises:
        FormatError: `tpm2.…`.
    """
    reader = open_response(response, TAG_SESSIONS)
    parameters = reader.take(reader.u32())
    if reader.rest() != b"\x00\x00\x01\x00\x00":
        raise FormatError("tpm2.session", "the session part is not that of a password")
    return Reader(parameters)
