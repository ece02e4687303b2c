"""`guest-owner audit`: who asked the KBS for what, what was compared, what was decided."""

import argparse
import json
from collections.abc import Iterable, Mapping

from ccinit.errors import ConfigError
from guest_owner.arguments import add_group, add_state
from guest_owner.claims_table import format_claims
from guest_owner.kbs.audit.claims import decode_claims
from guest_owner.kbs.audit.log import AUDIT_NAME, has_records, read_audit
from guest_owner.kbs.state.store import Store
from guest_owner.table import table_lines
from guest_owner.terminal_text import printable
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import UsageError

_HEADER = ("time", "event", "who", "decision", "what", "reason")


def add_parser(subparsers: Subparsers) -> None:
    """Add `audit show`."""
    commands = add_group(subparsers, "audit", "Read the audit log.")
    summary = "Print the decisions; with --session also the claims: expected, got, verdict."
    show = add_command(commands, "show", summary)
    add_state(show)
    show.add_argument(
        "--session", metavar="LABEL", help="print only this session (refusals quote its label)"
    )
    form = show.add_mutually_exclusive_group()
    form.add_argument(
        "--all", action="store_true", help="with --session: print claims that hold, too"
    )
    form.add_argument(
        "--json", action="store_true", help="print the log's own records, one per line"
    )
    show.set_defaults(func=_show)


def _show(arguments: argparse.Namespace) -> int:
    if arguments.all and arguments.session is None:
        raise UsageError("audit.session", "--all is about the claims of one --session: name it")
    path = Store(arguments.state).root / AUDIT_NAME
    if not has_records(path):
        if not arguments.json:
            print("nothing was asked yet")
        return 0
    asked = (
        record for record in read_audit(path) if arguments.session in (None, record["session"])
    )
    if arguments.json:
        has_any = _print_json(asked)
    elif arguments.session is None:
        has_any = _print_table(asked)
    else:
        has_any = _print_session(asked, with_holding=arguments.all)
    if arguments.session is not None and not has_any:
        raise ConfigError("audit.session", f"no record of session {arguments.session!r} in {path}")
    return 0


def _print_json(records: Iterable[Mapping[str, object]]) -> bool:
    """Print records one after the other, since the log may be larger than memory.

    Returns whether there was any; so do the functions below.
    """
    return _print_lines(json.dumps(record, separators=(",", ":")) for record in records)


def _print_table(records: Iterable[Mapping[str, object]]) -> bool:
    """Print a line for each record, without keeping any of them."""
    return _print_lines(table_lines(_HEADER, map(_cells, records)))


def _print_lines(lines: Iterable[str]) -> bool:
    has_any = False
    for line in lines:
        print(line)
        has_any = True
    return has_any


def _print_session(records: Iterable[Mapping[str, object]], *, with_holding: bool) -> bool:
    """Print the table, and below it the claims, which few records of a session have."""
    appraised = []

    def note(record: Mapping[str, object]) -> Mapping[str, object]:
        if "claims" in record:
            appraised.append(record)
        return record

    has_any = _print_table(map(note, records))
    for record in appraised:
        _print_claims(record, with_holding=with_holding)
    return has_any


def _cells(record: Mapping[str, object]) -> tuple[str, ...]:
    """Return a record's line of the table.

    "Who" is a session, an administrator or a user. "What" is the guest that attested, a resource, a
    call with what it registered or replaced, or the count of a rotation. The reason of a release is
    the policy's rule.
    """
    removed = str(record.get("removed", "0"))
    call = str(record.get("request", ""))
    changed = str(record.get("registered") or record.get("replaced", ""))
    return (
        str(record["time"]),
        str(record["event"]),
        str(record["session"] or record.get("administrator") or record.get("user", "")),
        str(record["decision"]),
        str(record.get("resource") or (f"{call}: {changed}" if changed else call))
        or (f"{removed} records removed so far" if removed != "0" else _guest(record)),
        str(record["reason"] or (f"rule {record['rule']}" if "rule" in record else "")),
    )


def _guest(record: Mapping[str, object]) -> str:
    """Return platform, image and document of a guest that was appraised; "" of any other."""
    if not record.get("reference"):
        return ""
    document = record.get("initdata_name") or record.get("initdata", "none")
    image = f"{record['reference']} ({record.get('profile', '')})"
    return f"{record['tee']}: image {image}, initdata {document}"


def _print_claims(record: Mapping[str, object], *, with_holding: bool) -> None:
    claims = decode_claims(record)
    if not claims:
        return
    shown = [claim for claim in claims if with_holding or not claim.holds]
    print()
    if "basis" in record:
        print(f"stands on {printable(str(record['basis']))}")
    passport = record.get("passport")
    if isinstance(passport, Mapping):
        print(f"by a token of the issuer {printable(str(passport.get('issuer', '')))}")
    print(format_claims(shown) if shown else "every claim holds (--all lists them)")
