"""`guest-owner logs`, `events`, `metrics` and `attest`: looking into a guest that runs.

Output of a guest that nobody has judged yet may attack the terminal that displays it. Log entries
are always printed escaped, as `unseal` prints them (`guest_owner.sealed_log.text`); metrics and
evidence are escaped only on a terminal.
"""

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.planes.owner_rpc import (
    MAX_EVIDENCE_BYTES,
    NONCE_BYTES,
    Stream,
    Value,
    report_data,
)
from ccinit.formats.planes.owner_wire import LogLine, LogLineReader
from ccinit.formats.planes.tls_hello import group_name
from guest_owner.arguments import add_utc, as_container
from guest_owner.commands.top import read_metrics
from guest_owner.commands.verify import appraise_alone
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.table import find_verified_tee
from guest_owner.plane.client import OwnerClient
from guest_owner.plane.endpoint import add_endpoint, connect
from guest_owner.plane.open_call import Streams
from guest_owner.sealed_log.text import entry_lines, entry_text
from guest_owner.sealed_log.wall_clock import WallClock, json_times, stamp
from guest_owner.telling import tell
from guest_owner.terminal_text import open_sink
from guest_owner.verdict import print_verdict
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command

_MAX_NUMBER = (1 << 64) - 1
_MAX_TAIL_LINES = 1 << 30


def add_parser(subparsers: Subparsers) -> None:
    """Add the four commands."""
    summary = "Print recent output of the containers, of crun and of the kernel."
    logs = _add(subparsers, "logs", summary, _logs)
    logs.add_argument(
        "--container", type=as_container, metavar="NAME", help="print only this container's output"
    )
    events = _add(subparsers, "events", "Print recent events of the guest itself.", _events)
    for parser in (logs, events):
        parser.add_argument("-f", "--follow", action="store_true", help="keep printing new entries")
        number = whole_number(0, _MAX_NUMBER)
        since = "number of the first entry to print; --json shows it as `sequence`"
        parser.add_argument("--since", type=number, default=0, metavar="NUMBER", help=since)
        tail = "of the entries that are there already, print only the last NUMBER lines"
        parser.add_argument(
            "--tail", type=whole_number(0, _MAX_TAIL_LINES), metavar="NUMBER", help=tail
        )
        add_utc(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object per line")
    _add(subparsers, "metrics", "Print the guest's metrics in Prometheus text format.", _metrics)
    attest = _add(subparsers, "attest", "Ask the guest for fresh evidence, and judge it.", _attest)
    form = attest.add_mutually_exclusive_group()
    form.add_argument(
        "--evidence-only", action="store_true", help="print the evidence and judge nothing"
    )
    form.add_argument("--json", action="store_true", help="print one JSON object")


def _add(
    subparsers: Subparsers, name: str, summary: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = add_command(subparsers, name, summary)
    add_endpoint(parser)
    parser.set_defaults(func=run)
    return parser


def _logs(arguments: argparse.Namespace) -> int:
    return _follow(arguments, "logs", (arguments.container or "",))


def _events(arguments: argparse.Namespace) -> int:
    return _follow(arguments, "events", ())


def _follow(arguments: argparse.Namespace, method: str, params: tuple[str, ...]) -> int:
    clock: WallClock | None = None
    count = 0

    def lines(entry: LogLine) -> Iterable[str]:
        nonlocal count
        count += 1
        return [_json_line(entry, clock)] if arguments.json else _text_lines(entry, clock)

    with connect(arguments) as client:
        if arguments.utc:
            clock = WallClock.of_running(read_metrics(client).of_guest("uptime_seconds"))
        since = arguments.since
        if arguments.tail is not None:
            last: deque[str] = deque(maxlen=arguments.tail)
            there = (*params, since, False)
            since = _receive(client, method, there, lambda entry: last.extend(lines(entry)))
            _print(last)
        if arguments.tail is None or arguments.follow:
            rest = (*params, since, arguments.follow)
            _receive(client, method, rest, lambda entry: _print(lines(entry)))
    if not count:
        tell("nothing among what the guest remembers; the sealed log has all")
    return 0


def _receive(
    client: OwnerClient,
    method: str,
    params: tuple[Value, ...],
    take: Callable[[LogLine], None],
) -> int:
    """Give each entry of the call to `take`; return the number of the first one after it."""
    reader = LogLineReader()

    def feed(data: bytes) -> None:
        for entry in reader.feed(data):
            take(entry)

    (following,) = client.stream(method, *params, streams=Streams(sinks={Stream.OUTPUT: feed}))
    reader.finish()
    if not isinstance(following, int):
        raise TypeError("the schema says u64")
    return following


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _metrics(arguments: argparse.Namespace) -> int:
    with connect(arguments) as client:
        (text,) = client.call("metrics")
    if not isinstance(text, bytes):
        raise TypeError("the schema says bin")
    open_sink(sys.stdout)(text)
    return 0


def _attest(arguments: argparse.Namespace) -> int:
    nonce = os.urandom(NONCE_BYTES)
    with connect(arguments) as client:
        tee, evidence = client.call("attest", nonce)
        expected = report_data(nonce, client.certificate_der)
        exchange = group_name(client.group)
    if not isinstance(evidence, bytes):
        raise TypeError("the schema says bin")
    if arguments.evidence_only:
        open_sink(sys.stdout)(evidence + b"\n")
        return 0
    verified = find_verified_tee(str(tee))
    value = parse_json(evidence, "attest", MAX_EVIDENCE_BYTES)
    judge = partial(
        appraise_alone, verified, value, expected, Store(arguments.state).read_references()
    )
    noted = {"key_exchange": exchange}
    return print_verdict(verified, judge, as_json=arguments.json, noted=noted)


def _text_lines(line: LogLine, clock: WallClock | None) -> list[str]:
    lines = entry_lines(line.kind, line.source, line.data)
    return [f"{stamp(line.boottime_us, clock)} {text}" for text in lines]


def _json_line(line: LogLine, clock: WallClock | None) -> str:
    return json.dumps(
        {
            "sequence": line.sequence,
            **json_times(line.boottime_us, clock),
            "kind": line.kind.name.lower(),
            "source": line.source,
            "text": entry_text(line.kind, line.data),
        }
    )
