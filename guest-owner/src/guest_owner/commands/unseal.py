"""`guest-owner unseal` and `guest-owner log-key`: the sealed log at the owner's terminal.

Scope: arguments, printing, exit codes. Left to others: keys, reading the stream, its entries as
text (`guest_owner.sealed_log`), and judging evidence (`guest_owner.kbs`).
"""

import argparse
import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from ccinit.errors import ConfigError
from ccinit.formats.evidence.log_key import parse_log_evidence
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.launch_secret import verify_log_voucher
from ccinit.formats.sealed_log import BootId, Kind, report_data
from guest_owner.arguments import STATE_VARIABLE, add_group, add_utc
from guest_owner.files import read_capped, read_parsed
from guest_owner.kbs.references.values import References
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.table import find_verified_tee, verify_log_evidence
from guest_owner.sealed_log.entries import LogEntry
from guest_owner.sealed_log.key import new_log_key, parse_log_key
from guest_owner.sealed_log.text import entry_lines, entry_text
from guest_owner.sealed_log.unseal import EvidenceVerifier, Unsealing, Verdict
from guest_owner.sealed_log.wall_clock import WallClock, json_times, stamp
from guest_owner.terminal_text import escape_text
from measured_boot.command_line.subcommands import Subparsers, add_command

EXIT_GOOD: Final = 0
EXIT_BAD: Final = 1
EXIT_OPEN: Final = 3  # nothing wrong, but the log is not over or nobody checked the evidence

_OPEN_REASONS: Final = frozenset({"unseal.end", "unseal.truncated", "unseal.unsigned"})
"""Findings that a log has if it is read while the host still writes it, even within a record."""
_MAX_KEY_BYTES: Final = 4096
_NO_ENTRIES: Final = frozenset({Kind.SIGNATURE, Kind.FILL})


def add_parser(subparsers: Subparsers) -> None:
    """Add `unseal` and `log-key` to the owner's command line."""
    parser = add_command(subparsers, "unseal", "Read and verify a collected log.")
    parser.epilog = (
        "Exit status: 0 verified whole; 1 something is wrong; 3 nothing is wrong so far."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the collected stream")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the private log key"
    )
    parser.add_argument(
        "--psk",
        type=Path,
        metavar="FILE",
        help="the pod's log-psk resource, 32 raw bytes or more",
    )
    # No default of ./guest-owner-state: logs are read where there is no state, too.
    state = os.environ.get(STATE_VARIABLE)
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(state) if state else None,
        metavar="DIR",
        help="state of the KBS, whose registrations show who wrote the log "
        f"(default: ${STATE_VARIABLE}; without it that is not checked)",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.name.lower() for kind in Kind if kind not in _NO_ENTRIES],
        metavar="KIND",
        help="print only entries of this kind, of %(choices)s; may be repeated. All are verified",
    )
    parser.add_argument(
        "--source",
        action="append",
        metavar="NAME",
        help="print only what this container wrote; may be repeated",
    )
    add_utc(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.set_defaults(func=run_unseal)

    actions = add_group(subparsers, "log-key", "Make a log key, or show its public half.")
    new = add_command(actions, "new", "Make a key and print `log.public_key` for ccinit.toml.")
    new.add_argument(
        "file", type=Path, metavar="FILE", help="where the private key goes; must not exist"
    )
    new.set_defaults(func=run_new_key)
    show = add_command(actions, "public", "Print the public half of a key.")
    show.add_argument("file", type=Path, metavar="FILE", help="a private log key")
    show.set_defaults(func=run_show_key)


def run_new_key(arguments: argparse.Namespace) -> int:
    """Make a key pair."""
    key = new_log_key()
    key.write(arguments.file)
    print(key.public_text)
    return EXIT_GOOD


def run_show_key(arguments: argparse.Namespace) -> int:
    """Print a public key."""
    print(read_parsed(arguments.file, _MAX_KEY_BYTES, parse_log_key).public_text)
    return EXIT_GOOD


def run_unseal(arguments: argparse.Namespace) -> int:
    """Read, verify and print a stream."""
    key = read_parsed(arguments.key, _MAX_KEY_BYTES, parse_log_key)
    psk = None if arguments.psk is None else read_capped(arguments.psk, _MAX_KEY_BYTES)
    verifier = None
    if arguments.state is not None:
        verifier = evidence_verifier(Store(arguments.state).read_references(), psk)
    with _opened(arguments.file) as stream:
        reading = Unsealing(stream, key, psk=psk, verify_evidence=verifier)
        clock = WallClock() if arguments.utc else None
        entries = reading.entries() if clock is None else noted(reading.entries(), clock)
        chosen = choose_entries(entries, arguments.kind, arguments.source)
        write = json_lines if arguments.json else text_lines
        write_lines(write(chosen, clock), sys.stdout)
    verdict = reading.verdict()
    write_lines(json_verdict(verdict) if arguments.json else text_verdict(verdict), sys.stdout)
    return exit_code(verdict)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to read in the block.

    Raises:
        ConfigError: `state.read`: it cannot be opened, or not read to its end.
        OSError: about another file, which it names.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        if error.filename not in {None, str(path)}:
            raise
        raise ConfigError("state.read", f"cannot read {path}: {error.strerror}") from error


def evidence_verifier(references: References, psk: bytes | None = None) -> EvidenceVerifier:
    """Return a judge of record 1 that trusts what is registered with the KBS.

    Args:
        references: the registrations.
        psk: the pod's log-psk, which stands for evidence where launches are judged before they run.
    """

    def verify(evidence: bytes, boot_id: BootId, signing_key: bytes) -> str:
        parsed = parse_log_evidence(evidence)
        if parsed.tee == Tee.SEV:
            if psk is None:
                raise ConfigError("unseal.psk", "a launch vouches by the pod's log-psk; give --psk")
            verify_log_voucher(parsed.evidence, psk, report_data(boot_id, signing_key))
            return "a launch that its owner judged, and gave this log-psk"
        appraised = verify_log_evidence(
            find_verified_tee(parsed.tee),
            parsed.evidence,
            boot_id=boot_id,
            signing_key=signing_key,
            references=references,
        )
        image = appraised.reference
        return f"image {image.name} ({image.profile}), pod {appraised.initdata.name}"

    return verify


def noted(entries: Iterable[LogEntry], clock: WallClock) -> Iterator[LogEntry]:
    """Yield entries, each once the clock knows what it says of the time."""
    for entry in entries:
        clock.note(entry.kind, entry.source, entry.boottime_us, entry.data)
        yield entry


def choose_entries(
    entries: Iterable[LogEntry], kinds: list[str] | None, sources: list[str] | None
) -> Iterator[LogEntry]:
    """Yield the entries that are asked for; None is all of them."""
    for entry in entries:
        is_kind = kinds is None or entry.kind.name.lower() in kinds
        if is_kind and (sources is None or entry.source in sources):
            yield entry


def exit_code(verdict: Verdict) -> int:
    """Return the verdict as a number."""
    if any(finding.reason not in _OPEN_REASONS for finding in verdict.findings):
        return EXIT_BAD
    if verdict.findings or verdict.bound is not True:  # a missing end is a finding
        return EXIT_OPEN
    return EXIT_GOOD


def write_lines(lines: Iterator[str], stream: TextIO) -> None:
    """Write lines to a terminal or pipe."""
    stream.writelines(line + "\n" for line in lines)


def text_lines(entries: Iterable[LogEntry], clock: WallClock | None = None) -> Iterator[str]:
    """Yield the log, for people."""
    dropped = 0
    for entry in entries:
        if entry.dropped > dropped:
            yield f"{'':>14}  -- {entry.dropped - dropped} entries were dropped here --"
            dropped = entry.dropped
        mark = " " if entry.is_signed else "?"
        for line in entry_lines(entry.kind, entry.source, entry.data):
            yield f"{stamp(entry.boottime_us, clock)}{mark} {line}"


def text_verdict(verdict: Verdict) -> Iterator[str]:
    """Yield how far the log can be believed, for people; printed after the log."""
    yield ""
    boot_id = "unknown" if verdict.boot_id is None else verdict.boot_id.hex()
    yield f"boot       {boot_id}"
    alive = f" ({verdict.signed_us / 1e6:.6f})" if verdict.signed else ""
    yield f"records    {verdict.records}, signed up to {verdict.signed}{alive}"
    match verdict.bound:
        case None:
            yield "evidence   NOT CHECKED: give --state to learn who wrote this"
        case True:
            yield f"evidence   {_clean(verdict.guest)}"
        case False:
            yield "evidence   DOES NOT VERIFY by what is registered now: anybody could write it"
    yield f"shared key {'in use' if verdict.mixed else 'not in use'}"
    for finding in verdict.findings:
        word = "OPEN " if finding.reason in _OPEN_REASONS else "WRONG"
        yield f"{word}      record {finding.index}: {finding.reason}: {_clean(finding.detail)}"
    if not verdict.findings:
        yield "verdict    complete, in order, signed to the end"


def json_lines(entries: Iterable[LogEntry], clock: WallClock | None = None) -> Iterator[str]:
    """Yield one object for each entry; keys are stable."""
    for entry in entries:
        yield json.dumps(
            {
                "index": entry.index,
                **json_times(entry.boottime_us, clock),
                "kind": entry.kind.name.lower(),
                "source": entry.source,
                "dropped": entry.dropped,
                "signed": entry.is_signed,
                "text": entry_text(entry.kind, entry.data),
                "data": base64.b64encode(entry.data).decode(),
            }
        )


def json_verdict(verdict: Verdict) -> Iterator[str]:
    """Yield the one object that follows those of the entries; keys are stable."""
    yield json.dumps(
        {
            "boot_id": None if verdict.boot_id is None else verdict.boot_id.hex(),
            "records": verdict.records,
            "signed": verdict.signed,
            "signed_boottime_us": verdict.signed_us,
            "bound": verdict.bound,
            "guest": verdict.guest,
            "mixed": verdict.mixed,
            "ended": verdict.ended,
            "findings": [
                {"reason": finding.reason, "index": finding.index, "detail": finding.detail}
                for finding in verdict.findings
            ],
        }
    )


def _clean(text: str) -> str:
    return escape_text(text.encode())
