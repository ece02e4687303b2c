"""The command `measured-boot replay`: what a log leads to, and where a boot differed.

Without options it prints the registers. With a quote's registers it says whether the log leads to
them; with an image, which event is the first that differs from the prediction.

Specification: TCG PC Client Platform TPM Profile, table "PCR Initial and Reset Values".
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.tcg.event_log import MAX_LOG_BYTES, Algorithm
from measured_boot.command_line.files import reading
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import UsageError
from measured_boot.commands.image_arguments import (
    IMAGE_HELP,
    add_image_options,
    named_platform,
    predict_image,
)
from measured_boot.event_log import (
    Difference,
    FirmwareLog,
    find_differences,
    read_firmware_log,
)
from measured_boot.event_words import describe_event

MAX_QUOTE_BYTES: Final = 64 * 1024
_NAME: Final = re.compile("rtmr[0-3]|(pcr)?([0-9]|1[0-9]|2[0-3])")

_DYNAMIC: Final = frozenset(f"pcr{number}" for number in range(17, 23))
"""Registers of a dynamic launch: all ones in a boot that had none."""


def add_replay(commands: Subparsers) -> None:
    """Add `replay`."""
    summary = "Replay a firmware's event log; compare with a quote and with an image."
    parser = add_command(commands, "replay", summary)
    add = parser.add_argument
    add(
        "log",
        type=Path,
        metavar="LOG",
        help="binary_bios_measurements of a TPM, or data/CCEL of a TD",
    )
    add(
        "--quote", type=Path, metavar="FILE", help="JSON of registers: NAME (pcr4, 4, rtmr1) to HEX"
    )
    add("--image", type=Path, metavar="FILE", help=IMAGE_HELP)
    add_image_options(parser)
    parser.set_defaults(func=_replay)


def parse_quote(data: bytes) -> Mapping[str, bytes]:
    """Return the registers of a JSON file by our names.

    `{"4": HEX}`, `{"pcr4": HEX}`, `{"rtmr1": HEX}` and the same below a member `pcr` or `registers`
    are read, so that reference values and predictions can be compared, too. Members that name no
    register are ignored.

    Raises:
        FormatError: `quote.form`, also if there is no register at all.
    """
    if len(data) > MAX_QUOTE_BYTES:
        raise LimitExceededError("quote.form", f"more than {MAX_QUOTE_BYTES} bytes")
    try:
        value = json.loads(data)
        value = value.get("pcr", value.get("registers", value))
        rows = [(name, text) for name, text in value.items() if _NAME.fullmatch(name)]
        quoted = {
            f"pcr{name}" if name.isdigit() else name: bytes.fromhex(text) for name, text in rows
        }
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise FormatError("quote.form", "not an object of registers in hex") from error
    if not quoted or len(quoted) != len(rows):
        raise FormatError("quote.form", "expected registers (4, pcr4, rtmr1, …), each once")
    for name, register in quoted.items():
        if len(register) != _size_of(name):
            raise FormatError("quote.form", f"{name} has {len(register)} bytes")
    return quoted


def _size_of(name: str) -> int:
    algorithm = Algorithm.SHA384 if name.startswith("rtmr") else Algorithm.SHA256
    return algorithm.digest_bytes


def _replay(options: argparse.Namespace) -> int:
    about_image = (options.platform, options.initrd, options.command_line)
    if options.image is None and any(option is not None for option in about_image):
        raise UsageError("replay.what", "--platform, --initrd, --command-line are about --image")
    named_platform(options)  # which judges the words about the image
    with reading(options.log, MAX_LOG_BYTES) as data:
        firmware = read_firmware_log(data)
    for name, value in firmware.replay().items():
        print(f"{name} {value.hex()}")
    complaints: list[str] = []
    if options.quote is not None:
        with reading(options.quote, MAX_QUOTE_BYTES) as data:
            complaints += _compare_quote(firmware, parse_quote(data))
    if options.image is not None:
        complaints += _compare_image(firmware, options)
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


def _compare_quote(firmware: FirmwareLog, quoted: Mapping[str, bytes]) -> list[str]:
    """Return a line for each register that the log does not lead to.

    Raises:
        FormatError: `quote.kind`: registers of a TPM and the log of a TD, or the other way round.
    """
    replayed = firmware.replay()
    complaints = []
    for name, value in quoted.items():
        if len(value) != firmware.algorithm.digest_bytes:
            kind = "TD" if firmware.is_of_tdx else "TPM"
            raise FormatError("quote.kind", f"the log of a {kind} has no {name}")
        ours = replayed.get(name, (b"\xff" if name in _DYNAMIC else b"\0") * len(value))
        if ours != value:
            complaints.append(
                f"{name}: the log leads to {ours.hex()}, the quote has {value.hex()}: "
                "something else extended it, or the log was changed"
            )
    if not complaints:
        print(f"the log leads to the quoted {', '.join(quoted)}")
    return complaints


def _compare_image(firmware: FirmwareLog, options: argparse.Namespace) -> list[str]:
    differences = find_differences(predict_image(options).events, firmware)
    if not differences:
        print("the log is as predicted")
    return [_describe(firmware, difference) for difference in differences]


def _describe(firmware: FirmwareLog, difference: Difference) -> str:
    name = firmware.name_of(difference.register)
    ours, theirs = "nothing more", "has nothing more"
    if difference.predicted is not None:
        event = difference.predicted
        digest = event.wide_digest if firmware.is_of_tdx else event.digest
        ours = f"{event.subject} ({digest.hex()})"
    if difference.logged is not None:
        theirs = f"has {describe_event(difference.logged)} ({difference.logged.digest.hex()})"
    return f"{name}, event {difference.position + 1}: predicted {ours}, the log {theirs}"
