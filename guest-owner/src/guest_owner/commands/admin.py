"""`guest-owner admin`: keys and tokens of those who administer the KBS over the network."""

import argparse
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ccinit.errors import ConfigError
from guest_owner.arguments import add_group, add_state
from guest_owner.files import read_capped, write_new
from guest_owner.kbs.administration.administrators import add_administrator, read_administrators
from guest_owner.kbs.administration.token import MAX_LIFE_SECONDS, sign_admin_token
from guest_owner.kbs.audit.log import AUDIT_NAME, read_audit
from guest_owner.kbs.authority import MAX_PEM_BYTES
from guest_owner.kbs.references.values import check_name
from guest_owner.kbs.state.local_changes import recorded
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.private_keys import ed25519_key
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word


def add_parser(subparsers: Subparsers) -> None:
    """Add `admin new-key` and `admin token`."""
    commands = add_group(
        subparsers,
        "admin",
        "Manage who may administer the KBS over the network; at first nobody may.",
    )
    summary = "Make an administrator's key: write the private part, register the public one."
    new_key = add_command(commands, "new-key", summary)
    add_state(new_key)
    new_key.add_argument(
        "file", type=Path, metavar="FILE", help="where to write the private key; must not exist"
    )
    new_key.add_argument(
        "--name",
        type=as_word(lambda name: check_name(name, "admin.name")),
        default="admin",
        help="name of the administrator in the audit log (default: %(default)s)",
    )
    new_key.set_defaults(func=_new_key)

    summary = "Print a token for `Authorization: Bearer`, for scripts and Trustee's client tools."
    token = add_command(commands, "token", summary)
    token.add_argument("file", type=Path, metavar="FILE", help="private key from `admin new-key`")
    token.add_argument(
        "--seconds",
        type=whole_number(1, MAX_LIFE_SECONDS),
        default=600,
        metavar="N",
        help="how long the token is valid (default: %(default)s)",
    )
    token.set_defaults(func=_token)


def _new_key(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if any(known.name == arguments.name for known in read_administrators(arguments.state)):
        raise ConfigError("admin.exists", f"there is an administrator {arguments.name}")
    _require_unused(arguments.name, arguments.state / AUDIT_NAME)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_new(path, pem, "admin.file", "it may be somebody's key")
    try:
        with recorded(
            arguments.state, "admin new-key", registered=f"admin-keys/{arguments.name}.pem"
        ):
            add_administrator(arguments.state, arguments.name, public)
    except BaseException:
        path.unlink()  # a key that was not registered is of no use
        raise
    print(f"wrote {path}; registered administrator {arguments.name}")
    print(f"`guest-owner unregister admin-keys/{arguments.name}.pem` takes it back")
    return 0


def _require_unused(name: str, log: Path) -> None:
    """Refuse the name of a former administrator: the audit log could not tell the two apart."""
    if any(record.get("administrator") == name for record in read_audit(log)):
        detail = f"the audit log has an administrator {name} whose key was removed: name another"
        raise ConfigError("admin.used", detail)


def _token(arguments: argparse.Namespace) -> int:
    key = ed25519_key(read_capped(arguments.file, MAX_PEM_BYTES), arguments.file, "admin.key")
    print(sign_admin_token(key, now=int(time.time()), life_seconds=arguments.seconds))
    return 0
