"""Secrets of a launch under SEV or SEV-ES: what the owner injects after judging the measurement.

The owner's packet is encrypted and authenticated for one launch by keys that only the owner and the
secure processor have, over the measurement that the owner saw (AMD 55766, LAUNCH_SECRET). Firmware
hands it on as a table of entries named by GUIDs, and Linux shows each entry as a file
(Documentation/security/secrets/coco.rst). Of the entries here

* one, `STATEMENT`, is JSON: `{"v": 1, "initdata": "sha256:…", "date": SECONDS}`, the digest of the
  whole document that the owner meant, and the time at which the secret was made;
* every other is an envelope (`ccinit.formats.kbs.envelope`) under any name.

Anything else is refused: the whole table is the owner's. The log-psk among the envelopes vouches
for the sealed log's key: only the owner and a launch that the owner approved have it.
"""

import hashlib
import hmac
from typing import Final

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.digest import Digest, parse_digest
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.hexadecimal import HEX_DIGITS
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import (
    MAX_INTEGER,
    JsonValue,
    members,
    parse_json,
    text_member,
)
from ccinit.formats.sealed_log import MIN_PSK_BYTES
from ccinit.values import frozen

STATEMENT: Final = "ca2fa1f2-1c46-4003-9bac-6f2c80542909"
MAX_ENTRIES: Final = 64  # EFI_SECRET_NUM_FILES
MAX_ENTRY_BYTES: Final = 64 * 1024  # OVMF's whole area has 3 KiB

_GUID_PARTS: Final = (8, 4, 4, 4, 12)
_LOG_LABEL: Final = b"ccinit/log/launch/v1\0"


@frozen
class LaunchStatement:
    """What the owner states of the launch.

    Attributes:
        initdata: SHA-256 of the whole document.
        date: when the statement was made, in seconds since 1970.
    """

    initdata: Digest
    date: int


def parse_launch_statement(data: bytes) -> LaunchStatement:
    """Read the entry `STATEMENT`.

    Raises:
        FormatError: `launch_statement.…`.
    """
    with Fields(parse_json(data, "launch_statement", 4096), "launch_statement") as fields:
        fields.integer("v", low=1, high=1)
        return LaunchStatement(
            initdata=parse_digest(fields.text("initdata"), "launch_statement.initdata"),
            date=fields.integer("date", low=0, high=MAX_INTEGER),
        )


def encode_launch_statement(statement: LaunchStatement) -> bytes:
    """Write what `parse_launch_statement` reads."""
    value = {"v": 1, "initdata": str(statement.initdata), "date": statement.date}
    return encode_json(value)


def is_guid(name: str) -> bool:
    """Return whether a file is named as Linux names an entry."""
    parts = name.split("-")
    return tuple(map(len, parts)) == _GUID_PARTS and HEX_DIGITS.issuperset("".join(parts))


def vouch_for_log(psk: bytes, report_data: bytes) -> bytes:
    """Return what a log has in place of evidence, JSON: a MAC over report data by the log-psk.

    Raises:
        FormatError: `launch_secret.log_psk`, too short to vouch for anything.
    """
    return b'{"mac":"' + _mac(psk, report_data).hex().encode() + b'"}'


def verify_log_voucher(voucher: JsonValue, psk: bytes, report_data: bytes) -> bytes:
    """Return the report data if a launch that was given this log-psk vouches for them.

    Raises:
        FormatError: `launch_voucher.…`, `launch_secret.log_psk`.
        VerificationError: `launch_voucher.mac`.
    """
    value = members(voucher, frozenset(("mac",)), "launch_voucher")
    text = text_member(value, "mac", "launch_voucher", max_bytes=64)
    if not hmac.compare_digest(text.encode(), _mac(psk, report_data).hex().encode()):
        raise VerificationError("launch_voucher.mac", "not made with this log-psk for this log")
    return report_data


def _mac(psk: bytes, report_data: bytes) -> bytes:
    if len(psk) < MIN_PSK_BYTES:
        raise FormatError(
            "launch_secret.log_psk", f"expected at least {MIN_PSK_BYTES} bytes, found {len(psk)}"
        )
    return hmac.digest(psk, _LOG_LABEL + report_data, hashlib.sha256)
