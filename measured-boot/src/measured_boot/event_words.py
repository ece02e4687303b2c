"""Say in words what a logged event is about, as far as its type and data tell.

The data of an event need not be what was measured, so the words are only a hint for people.

Specification: TCG PC Client Platform Firmware Profile 1.06, section 10.4 (event types) and 10.5
(their data).
"""

import struct
from typing import Final

from ccinit.formats.tcg.event_log import LoggedEvent

_MAX_CHARACTERS: Final = 80
_GUID_BYTES: Final = 16
_VARIABLE_SIZES: Final = struct.Struct("<QQ")  # characters of the name, bytes of the value
_TAG: Final = struct.Struct("<II")  # identity, bytes
_FIXED: Final = {
    0x00000004: "separator",  # EV_SEPARATOR
    0x80000003: "a program that firmware started",  # EV_EFI_BOOT_SERVICES_APPLICATION
    0x80000004: "a driver",  # EV_EFI_BOOT_SERVICES_DRIVER
    0x80000006: "a disk's partition table",  # EV_EFI_GPT_EVENT
    0x80000008: "a volume of firmware",  # EV_EFI_PLATFORM_FIRMWARE_BLOB
    0x80000009: "hand-off tables",  # EV_EFI_HANDOFF_TABLES
    0x8000000A: "a volume of firmware",  # EV_EFI_PLATFORM_FIRMWARE_BLOB2
    0x8000000B: "hand-off tables",  # EV_EFI_HANDOFF_TABLES2
}
_TEXT: Final = {
    0x00000008: "version of firmware",  # EV_S_CRTM_VERSION
    0x0000000A: "platform data",  # EV_PLATFORM_CONFIG_FLAGS
    0x0000000D: "loader's measurement",  # EV_IPL
    0x80000007: "action",  # EV_EFI_ACTION
}
_TAGGED: Final = 0x00000006  # EV_EVENT_TAG
_VARIABLES: Final = {
    0x80000001: "Secure Boot variable",  # EV_EFI_VARIABLE_DRIVER_CONFIG
    0x80000002: "boot variable",  # EV_EFI_VARIABLE_BOOT
    0x800000E0: "authority by which a program was allowed",  # EV_EFI_VARIABLE_AUTHORITY
}


def describe_event(event: LoggedEvent) -> str:
    """Return a few words of printable ASCII about an event."""
    if event.kind in _FIXED:
        return _FIXED[event.kind]
    if event.kind in _TEXT:
        return _with_text(_TEXT[event.kind], event.data)
    if event.kind in _VARIABLES:
        return _with_text(_VARIABLES[event.kind], _variable_name(event.data))
    if event.kind == _TAGGED:
        return _with_text("tagged event", event.data[_TAG.size :])
    return f"event of type {event.kind:#x}"


def _with_text(what: str, data: bytes) -> str:
    text = _printable(data)
    return f'{what} "{text}"' if text else what


def _printable(data: bytes) -> str:
    """Return text that firmware wrote in ASCII or UTF-16, without what a terminal would obey."""
    encoding = "utf-16-le" if data[1:2] == b"\0" else "ascii"
    text = data[: 2 * _MAX_CHARACTERS].decode(encoding, "replace").split("\0")[0]
    return "".join(
        mark if mark.isascii() and mark.isprintable() else "?" for mark in text[:_MAX_CHARACTERS]
    )


def _variable_name(data: bytes) -> bytes:
    end = _GUID_BYTES + _VARIABLE_SIZES.size
    if len(data) < end:
        return b""
    characters, _ = _VARIABLE_SIZES.unpack_from(data, _GUID_BYTES)
    return data[end : end + 2 * min(characters, _MAX_CHARACTERS)]
