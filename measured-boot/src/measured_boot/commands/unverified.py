"""The command `measured-boot unverified`: values that nobody has compared with a real platform.

They are computed by the specification, from inputs that leave nothing open, and are marked so that
no program takes them for reference values.
"""

import argparse
import json
from pathlib import Path

from measured_boot.command_line.files import read_capped, reading
from measured_boot.command_line.subcommands import (
    Subparsers,
    add_command,
    add_commands,
    explain_form,
)
from measured_boot.image.pe import MAX_IMAGE_BYTES
from measured_boot.unverified import realm_calls
from measured_boot.unverified.realm_calls import MAX_LIST_BYTES, measure_calls
from measured_boot.unverified.se_header import MAX_HEADER_BYTES, parse_se_header


def add_unverified(commands: Subparsers) -> None:
    """Add `unverified`."""
    summary = "Compute values for Arm CCA and IBM Secure Execution; compared by nobody."
    parser = add_command(commands, "unverified", summary)
    kinds = add_commands(parser)
    cca = add_command(kinds, "cca", "Compute the RIM of a realm from the calls that built it.")
    cca.add_argument("calls", type=Path, metavar="FILE", help="JSON file, as below")
    explain_form(cca, realm_calls)
    cca.set_defaults(func=_measure_realm)
    se = add_command(kinds, "se", "Show digests and tag of a Secure Execution header.")
    se.add_argument(
        "header", type=Path, metavar="FILE", help="the header, cut out of an image by pvextract-hdr"
    )
    se.set_defaults(func=_read_header)


def _measure_realm(options: argparse.Namespace) -> int:
    folder = options.calls.parent
    with reading(options.calls, MAX_LIST_BYTES) as data:
        rim = measure_calls(data, lambda name: read_capped(folder / name, MAX_IMAGE_BYTES))
    _print("cca", {"rim": rim.hex()})
    return 0


def _read_header(options: argparse.Namespace) -> int:
    with reading(options.header, MAX_HEADER_BYTES) as data:
        header = parse_se_header(data)
    _print(
        "se",
        {
            "se.tag": header.tag.hex(),
            "se.image_phkh": [digest.hex() for digest in header.host_key_hashes],
            "pld": header.page_digest.hex(),
            "ald": header.address_digest.hex(),
            "tld": header.tweak_digest.hex(),
        },
    )
    return 0


def _print(technology: str, values: dict[str, str | list[str]]) -> None:
    print(json.dumps({"unverified": True, "technology": technology, **values}, indent=2))
