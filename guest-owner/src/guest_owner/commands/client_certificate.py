"""`guest-owner client-ca`, `client-cert` and `owner-identity`: who may talk with whom.

A small authority of the owner vouches for clients, each with one role, and for guests whose
identity the KBS stores instead of minting it. See `guest_owner.plane.authority`.
"""

import argparse
from pathlib import Path

from cryptography import x509

from ccinit.formats.planes.owner_rpc import ClientRole
from guest_owner.arguments import add_group, add_state, as_name
from guest_owner.certificates import common_name
from guest_owner.files import write_new
from guest_owner.plane.authority import (
    AUTHORITY_LIFE,
    OWNER_AUTHORITY_FILE,
    OwnerAuthority,
    create_authority,
    read_authority,
)
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word

_CLIENT_DAYS = 90
_GUEST_DAYS = 825


def add_parser(subparsers: Subparsers) -> None:
    """Add the three groups."""
    group = add_group(subparsers, "client-ca", "Manage the authority of the owner plane.")
    init = add_command(group, "init", "Make it and print `owner.client_ca` for ccinit.toml.")
    add_state(init)
    init.set_defaults(func=_init)
    show = add_command(group, "show", "Print `owner.client_ca` of an authority that is there.")
    add_state(show)
    show.set_defaults(func=_show)

    group = add_group(subparsers, "client-cert", "Make certificates for the owner plane's clients.")
    new = add_command(group, "new", "Make a key and a certificate with one role.")
    new.add_argument(
        "name",
        type=as_word(_check_name),
        metavar="NAME",
        help="who it is for; the guest's log shows it",
    )
    roles = [role.value for role in ClientRole]
    new.add_argument(
        "--role", choices=roles, required=True, help="what it may do: logs < exec < admin"
    )
    _add_output(new, _CLIENT_DAYS)
    new.set_defaults(func=_new_client)

    group = add_group(subparsers, "owner-identity", "Make a guest's TLS identity to store.")
    summary = "Make the data of kbs:///ccinit/POD/tls-identity, for `register resource`."
    new = add_command(group, "new", summary)
    new.add_argument(
        "pod",
        type=as_name("identity.pod"),
        metavar="POD",
        help="name in the pod manifest: the name that clients expect",
    )
    _add_output(new, _GUEST_DAYS)
    new.set_defaults(func=_new_identity)


def _add_output(parser: argparse.ArgumentParser, days: int) -> None:
    parser.add_argument(
        "--days",
        type=whole_number(1, AUTHORITY_LIFE.days),
        default=days,
        metavar="N",
        help=f"lifetime (default: {days})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="file for key and certificate, PEM; must not exist",
    )
    add_state(parser)


def _check_name(name: str) -> str:
    common_name(name)
    return name


def _init(arguments: argparse.Namespace) -> int:
    create_authority(arguments.state)
    print(f"wrote {arguments.state / OWNER_AUTHORITY_FILE}; in ccinit.toml:")
    return _show(arguments)


def _show(arguments: argparse.Namespace) -> int:
    pem = read_authority(arguments.state).pem.decode()
    print(f"[owner]\nclient_ca = '''\n{pem}'''")
    return 0


def _new_client(arguments: argparse.Namespace) -> int:
    authority = read_authority(arguments.state)
    pem = authority.issue_client(arguments.name, ClientRole(arguments.role), arguments.days)
    return _write(arguments.output, pem, authority)


def _new_identity(arguments: argparse.Namespace) -> int:
    authority = read_authority(arguments.state)
    return _write(arguments.output, authority.issue_guest(arguments.pod, arguments.days), authority)


def _write(path: Path, pem: bytes, authority: OwnerAuthority) -> int:
    write_new(path, pem, "certificate.exists", "it may be somebody's key")
    ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    with_its_authority = ends == authority.certificate.not_valid_after_utc
    until = (
        f", valid until {ends:%Y-%m-%d}, when its authority expires" if with_its_authority else ""
    )
    print(f"wrote {path}{until}")
    return 0
