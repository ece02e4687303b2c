"""`guest-owner`: the command line of the guest's owner.

Each module in `COMMANDS` has `add_parser(subparsers)`, which adds its commands and sets `func`, a
function from the parsed arguments to an exit status. What the commands do is in those modules.

Exit status: 0 done, 1 failed or refused (standard error says what, why and what to do), 2 wrong
usage, 130 interrupted. `unseal` has one more; `exec` and `debug open` return their program's.
"""

import argparse
from collections.abc import Sequence

from guest_owner.commands import admin as admin_command
from guest_owner.commands import audit as audit_command
from guest_owner.commands import client_certificate as client_certificate_command
from guest_owner.commands import debug as debug_command
from guest_owner.commands import exec as exec_command
from guest_owner.commands import initdata as initdata_command
from guest_owner.commands import kbs as kbs_command
from guest_owner.commands import launch_secret as launch_secret_command
from guest_owner.commands import manifest as manifest_command
from guest_owner.commands import plane as plane_command
from guest_owner.commands import policy as policy_command
from guest_owner.commands import register as register_command
from guest_owner.commands import top as top_command
from guest_owner.commands import unregister as unregister_command
from guest_owner.commands import unseal as unseal_command
from guest_owner.commands import verify as verify_command
from guest_owner.commands import volume_key as volume_key_command
from guest_owner.telling import PROGRAM
from measured_boot.command_line.errors import run_command
from measured_boot.command_line.subcommands import add_commands, make_parser, run_chosen

COMMANDS = (
    kbs_command,
    admin_command,
    register_command,
    unregister_command,
    policy_command,
    manifest_command,
    initdata_command,
    launch_secret_command,
    volume_key_command,
    audit_command,
    unseal_command,
    verify_command,
    client_certificate_command,
    plane_command,
    top_command,
    exec_command,
    debug_command,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    return run_command(PROGRAM, lambda: run_chosen(build_parser(), arguments))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = make_parser(
        PROGRAM,
        "Tools of a confidential guest's owner: describe the pod, register what may run, serve its "
        "secrets to guests that prove it, read their sealed logs, act in those that run.",
        "`guest-owner COMMAND --help` explains each command. Exit status: 0 done; 1 failed or "
        "refused; 2 wrong usage; 130 interrupted.",
    )
    subparsers = add_commands(parser)
    for module in COMMANDS:
        module.add_parser(subparsers)
    return parser
