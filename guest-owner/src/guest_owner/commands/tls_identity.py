"""`guest-owner register tls-identity`: let the KBS make an identity for each session of a pod."""

import argparse

from ccinit.errors import FormatError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.arguments import add_state
from guest_owner.kbs.minting import MAX_LIFE_SECONDS, IdentityOrder
from guest_owner.kbs.state.local_changes import recording_store
from guest_owner.plane.authority import OWNER_AUTHORITY_FILE, ensure_authority
from guest_owner.pod_names import check_names
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word


def add_parser(commands: Subparsers) -> None:
    """Add the command."""
    summary = "Let the KBS make TLS identities for guests of a pod, signed by owner-ca.pem."
    identity = add_command(commands, "tls-identity", summary)
    add_state(identity)
    identity.add_argument(
        "uri",
        type=as_word(_parse_identity_uri),
        metavar="URI",
        help="kbs:///ccinit/POD/tls-identity",
    )
    identity.add_argument(
        "--life-hours",
        type=whole_number(1, MAX_LIFE_SECONDS // 3600),
        default=24,
        metavar="N",
        help="how long a certificate is valid (default: %(default)s)",
    )
    identity.set_defaults(func=_identity)


def _identity(arguments: argparse.Namespace) -> int:
    state, uri = arguments.state, arguments.uri
    store = recording_store(state, "register tls-identity")
    ensure_authority(state)
    store.write_order(uri, IdentityOrder(arguments.life_hours * 3600))
    print(f"each session that may have {uri} gets a key and a certificate of its own")
    print(f"its owner's tools know the guest by {state / OWNER_AUTHORITY_FILE}")
    return 0


def _parse_identity_uri(text: str) -> ResourceUri:
    """Return the one name of an identity; an order by any other would never be asked for."""
    uri = parse_resource_uri(text, "resource.uri")
    expected = ResourceUri("ccinit", uri.type, EnvelopeKind.TLS_IDENTITY.value)
    if uri != expected:
        detail = f"{uri}: a guest asks for kbs:///ccinit/POD/tls-identity, POD as in pod.toml"
        raise FormatError("resource.identity", detail)
    check_names("resource", pod=uri.type)
    return uri
