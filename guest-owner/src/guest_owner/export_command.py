"""`guest-owner export`: registrations and policy for a Trustee installation."""

import argparse
import json
from pathlib import Path

from guest_owner.arguments import Subparsers, add_group, add_state
from guest_owner.kbs.files import PUBLIC_MODE, write_atomically
from guest_owner.kbs.store import Store
from guest_owner.trustee.export import (
    appraisal_policy,
    reference_values,
    resource_policy,
    rvps_message,
)


def add_parser(subparsers: Subparsers) -> None:
    """Add `export trustee`."""
    commands = add_group(subparsers, "export", "Write policies for other verifiers.")
    summary = "Write the policies and reference values that a Trustee installation needs."
    trustee = commands.add_parser("trustee", help=summary, description=summary)
    add_state(trustee)
    trustee.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where to write the files"
    )
    trustee.set_defaults(func=_trustee)


def _trustee(arguments: argparse.Namespace) -> int:
    store = Store(arguments.state)
    references = store.read_references()
    values = reference_values(references)
    output: Path = arguments.output
    contents = {
        "default_cpu.rego": appraisal_policy().encode(),
        "resource-policy.rego": resource_policy(store.read_policy(), references).encode(),
        "reference-values.json": json.dumps(values, indent=2).encode() + b"\n",
        "rvps-message.json": rvps_message(values),
    }
    for name, data in contents.items():
        write_atomically(output / name, data, mode=PUBLIC_MODE)
        print(f"wrote {output / name}")
    return 0
