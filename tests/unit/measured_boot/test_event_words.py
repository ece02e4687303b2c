import json
import struct
from pathlib import Path

import pytest

from ccinit.formats.tcg.event_log import LoggedEvent
from measured_boot.event_words import describe_event

RECORDED = json.loads(Path("tests/vectors/measured_boot/uki.json").read_text())


def words(kind: int, data: bytes) -> str:
    return describe_event(LoggedEvent(register=0, kind=kind, digest=bytes(32), data=data))


def test_describe_event_of_a_recorded_boot() -> None:
    said = [words(kind, bytes.fromhex(data)) for _, kind, _, data in RECORDED["events"]]
    assert said[:4] == [
        'version of firmware "2025.02-8+deb13u1"',
        "a volume of firmware",
        "a volume of firmware",
        'Secure Boot variable "SecureBoot"',
    ]
    for expected in (
        'platform data "ACPI DATA"',
        'boot variable "BootOrder"',
        'action "Calling EFI Application from Boot Option"',
        "separator",
        "a program that firmware started",
        'loader\'s measurement ".linux"',
        'tagged event "Linux initrd"',
        'action "Exit Boot Services Returned with Success"',
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (0x12345, b"x", "event of type 0x12345"),
        (0xD, b"", "loader's measurement"),
        (0xD, b"\x1b[2J", 'loader\'s measurement "?[2J"'),
        (0xD, b"\xff" * 300, "loader's measurement \"" + "?" * 80 + '"'),
        (0x80000001, b"short", "Secure Boot variable"),
        (
            0x80000001,
            bytes(16) + struct.pack("<QQ", 1 << 63, 0) + "dbx".encode("utf-16-le"),
            'Secure Boot variable "dbx"',
        ),
    ],
)
def test_describe_event_never_says_what_a_terminal_obeys(
    kind: int, data: bytes, expected: str
) -> None:
    assert words(kind, data) == expected
