"""The key exchange that a TLS 1.3 server chose, from its first flight (RFC 8446, section 4.1.3).

Python's ssl module does not tell it, but ServerHello is not encrypted. Numbers are those of IANA's
"TLS Supported Groups".
"""

import struct
from typing import Final

from ccinit.errors import FormatError

X25519MLKEM768: Final = 0x11EC
GROUP_NAMES: Final = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    X25519MLKEM768: "X25519MLKEM768",
}

_HANDSHAKE = 22
_SERVER_HELLO = 2
_KEY_SHARE = 51
_VERSION_AND_RANDOM_BYTES = 2 + 32


def selected_group(flight: bytes) -> int:
    """Return the group of the first ServerHello in `flight` (a HelloRetryRequest has it, too).

    Raises:
        FormatError: `tls.hello`.
    """
    try:
        return _selected_group(flight)
    except (struct.error, IndexError) as error:
        raise FormatError("tls.hello", "cut off") from error


def group_name(group: int) -> str:
    """Return a group's name, or its number."""
    return GROUP_NAMES.get(group, f"group {group:#06x}")


def _selected_group(flight: bytes) -> int:
    kind, _, length = struct.unpack_from(">BHH", flight)
    if len(flight) < 5 + length:
        raise FormatError("tls.hello", "cut off")
    if kind != _HANDSHAKE or flight[5] != _SERVER_HELLO:
        raise FormatError("tls.hello", "not a ServerHello")
    hello = flight[9 : 5 + length]
    at = _VERSION_AND_RANDOM_BYTES
    at += 1 + hello[at]  # session id
    at += 2 + 1  # cipher suite, compression
    (size,) = struct.unpack_from(">H", hello, at)
    extensions = hello[at + 2 : at + 2 + size]
    while extensions:
        number, size = struct.unpack_from(">HH", extensions)
        if number == _KEY_SHARE:
            (group,) = struct.unpack_from(">H", extensions, 4)
            return int(group)
        extensions = extensions[4 + size :]
    raise FormatError("tls.hello", "no key share")
