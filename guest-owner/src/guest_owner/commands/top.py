"""`guest-owner top`: what the guest and its containers use, now and again."""

import argparse
import os
import sys
import time

from guest_owner.plane.client import OwnerClient
from guest_owner.plane.endpoint import add_endpoint, connect
from guest_owner.table import format_table
from guest_owner.usage import HEADER, Readings, parse_metrics, rows, summarize
from measured_boot.command_line.argument_types import seconds
from measured_boot.command_line.subcommands import Subparsers, add_command

_CLEAR = "\x1b[H\x1b[J"
_MAX_SECONDS = 300  # a guest ends a connection after ten minutes without a call


def add_parser(subparsers: Subparsers) -> None:
    """Add `top`."""
    summary = "Show what the guest and its containers use: processor, memory, processes."
    parser = add_command(subparsers, "top", summary)
    parser.add_argument("--once", action="store_true", help="print one table and end")
    parser.add_argument(
        "--interval",
        type=seconds(0.1, _MAX_SECONDS),
        default=2.0,
        metavar="SECONDS",
        help="between two readings (default: %(default)g)",
    )
    add_endpoint(parser)
    parser.set_defaults(func=_top)


def _top(arguments: argparse.Namespace) -> int:
    with connect(arguments) as client:
        before = read_metrics(client)
        while True:
            time.sleep(arguments.interval)
            now = read_metrics(client)
            _show(before, now, clear=not arguments.once and _can_clear())
            if arguments.once:
                return 0
            before = now


def _can_clear() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in {None, "", "dumb"}


def _show(before: Readings, now: Readings, *, clear: bool) -> None:
    text = f"{summarize(now)}\n\n{format_table(HEADER, rows(before, now))}\n"
    sys.stdout.write(f"{_CLEAR}{text}" if clear else text)
    sys.stdout.flush()


def read_metrics(client: OwnerClient) -> Readings:
    """Ask a guest what it and its containers use."""
    (text,) = client.call("metrics")
    if not isinstance(text, bytes):
        raise TypeError("the schema says bin")
    return parse_metrics(text.decode(errors="backslashreplace"))
