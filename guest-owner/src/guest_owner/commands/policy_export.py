"""`guest-owner policy export`: the owner's registrations and policy for another verifier."""

import argparse
import json
from pathlib import Path

from guest_owner.arguments import add_state
from guest_owner.files import PUBLIC_MODE, write_all_atomically
from guest_owner.kbs.references.values import check_name
from guest_owner.kbs.state.store import Store
from guest_owner.trustee.export import (
    appraisal_policy,
    narrow,
    reference_values,
    resource_policy,
    rvps_message,
)
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word


def add_parser(subparsers: Subparsers) -> None:
    """Add `export` to the commands of `policy`."""
    summary = "Write policies and reference values that make another KBS check as much as ours."
    export = add_command(subparsers, "export", summary)
    add_state(export)
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument(
        "--trustee", action="store_true", help="Rego policies and an RVPS message for Trustee"
    )
    export.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="where to write the files; those of an earlier export are replaced",
    )
    export.add_argument(
        "--reference",
        action="append",
        type=as_word(lambda name: check_name(name, "export.reference")),
        default=[],
        metavar="NAME",
        help="only this image; may be repeated (default: every registered one)",
    )
    export.add_argument(
        "--initdata",
        action="append",
        type=as_word(lambda name: check_name(name, "export.initdata")),
        default=[],
        metavar="NAME",
        help="only this initdata document; may be repeated (default: every registered one)",
    )
    export.set_defaults(func=_export)


def _export(arguments: argparse.Namespace) -> int:
    store = Store(arguments.state)
    references = narrow(store.read_references(), arguments.reference, arguments.initdata)
    values = reference_values(references)
    output: Path = arguments.output
    policy = resource_policy(store.read_policy(), references)
    files = {
        output / "default_cpu.rego": appraisal_policy().encode(),
        output / "resource-policy.rego": policy.encode(),
        output / "reference-values.json": json.dumps(values, indent=2).encode() + b"\n",
        output / "rvps-message.json": rvps_message(values),
    }
    write_all_atomically(files, mode=PUBLIC_MODE)
    for path in files:
        print(f"wrote {path}")
    return 0
