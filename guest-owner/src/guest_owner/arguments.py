"""Command-line arguments that several commands share, and their parsers."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.pod_names import check_names
from measured_boot.command_line.subcommands import Subparsers, add_command, add_commands
from measured_boot.command_line.tcp_address import split_address
from measured_boot.command_line.usage import as_word

STATE_VARIABLE = "GUEST_OWNER_STATE"

as_uri: Callable[[str], ResourceUri] = as_word(
    lambda text: parse_resource_uri(text, "resource.uri")
)
"""The `type` of an argument that is the URI of a resource."""


def add_state(parser: argparse.ArgumentParser) -> None:
    """Add `--state`, the directory with everything that the owner keeps."""
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(os.environ.get(STATE_VARIABLE) or "guest-owner-state"),
        metavar="DIR",
        help=f"state directory (default: ${STATE_VARIABLE}, or ./guest-owner-state)",
    )


def add_utc(parser: argparse.ArgumentParser) -> None:
    """Add `--utc`, which the commands that print entries of a log share."""
    parser.add_argument(
        "--utc",
        action="store_true",
        help="print times of day, not seconds since boot; with --json as `utc`, too",
    )


def add_group(subparsers: Subparsers, name: str, summary: str) -> Subparsers:
    """Add a command that only has subcommands, and return them."""
    return add_commands(add_command(subparsers, name, summary))


def as_name(reason: str) -> Callable[[str], str]:
    """Return the `type` of an argument that names a pod or a volume as pod.toml does."""
    where, _, what = reason.rpartition(".")

    def check(text: str) -> str:
        check_names(where, **{what: text})
        return text

    return as_word(check)


as_container: Callable[[str], str] = as_name("owner.container")
"""The `type` of an argument that names a container."""


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    address = split_address(text)
    if address is None or not address[0]:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, found {text!r}")
    return address
