"""`guest-owner unregister`: take back what was registered, with a record of who did."""

import argparse

from guest_owner.arguments import add_state
from guest_owner.kbs.state.local_changes import recording_store
from guest_owner.kbs.state.store import check_removable
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    summary = "Remove what was registered: a file of the state directory, with a record of it."
    parser = add_command(subparsers, "unregister", summary)
    add_state(parser)
    parser.add_argument(
        "files",
        nargs="+",
        type=as_word(check_removable),
        metavar="FILE",
        help="path below DIR: references/NAME.json, resources/REPOSITORY/TYPE/TAG, …",
    )
    parser.set_defaults(func=_unregister)


def _unregister(arguments: argparse.Namespace) -> int:
    store = recording_store(arguments.state, "unregister")
    for file in arguments.files:
        store.unregister(file)
        print(f"removed {store.root / file}")
    return 0
