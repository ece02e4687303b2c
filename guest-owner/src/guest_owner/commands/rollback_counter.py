"""`guest-owner register rollback-counter`: let the KBS know how old a volume may be."""

import argparse

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import MAX_INTEGER
from ccinit.formats.kbs.resource_uri import PluginUri
from ccinit.formats.kbs.rollback_counter import counter_rule, counter_uri
from guest_owner.arguments import add_state, as_name
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.local_changes import recorded
from guest_owner.kbs.state.store import Store
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command


def add_parser(commands: Subparsers) -> None:
    """Add the command."""
    summary = "Count the openings of a volume, so that its guest notices an old disk."
    counter = add_command(commands, "rollback-counter", summary)
    add_state(counter)
    for name, summary in (
        ("pod", "name of the pod, as in pod.toml"),
        ("volume", 'with rollback = "kbs-counter"'),
    ):
        counter.add_argument(
            name, type=as_name(f"counter.{name}"), metavar=name.upper(), help=summary
        )
    counter.add_argument(
        "--value",
        type=whole_number(0, MAX_INTEGER - 1),
        metavar="N",
        help="set the counter to N, whatever it is at now, to accept a backup: a guest that "
        "refuses the backup names its number (default: start a new counter)",
    )
    counter.set_defaults(func=_register)


def _register(arguments: argparse.Namespace) -> int:
    uri = counter_uri(arguments.pod, arguments.volume)
    counters = Counters(Store(arguments.state).root)
    value, before = arguments.value or 0, _read_if_there(counters, uri)
    told = f"{uri} at {value}"
    with recorded(arguments.state, "register rollback-counter", registered=told):
        if arguments.value is None:
            counters.begin(uri)
        else:
            counters.set(uri, arguments.value)
    if before > value:
        print(f"note: it was at {before}: disks from {value} on, older ones, are accepted again")
    print(f"registered {uri}, at {value}")  # not read back: a failure would hide what was done
    print(f"the policy decides about it as about {counter_rule(uri)}")
    return 0


def _read_if_there(counters: Counters, uri: PluginUri) -> int:
    """Return what a counter is at; 0 if there is none, or a damaged one, which is replaced."""
    try:
        return counters.read(uri).value
    except CcinitError:
        return 0
