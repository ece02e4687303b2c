"""`guest-owner kbs`: make a Key Broker Service and run it."""

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ccinit.errors import ConfigError
from guest_owner.arguments import add_group, add_state, parse_address
from guest_owner.certificates import general_name
from guest_owner.files import (
    PUBLIC_MODE,
    make_directory,
    remove_unfinished,
    write_atomically,
)
from guest_owner.kbs.authority import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    create_identity,
    write_identity,
)
from guest_owner.kbs.exclusion import LOCK_FILE, changing, held_alone
from guest_owner.kbs.http.server import build_server, open_listener
from guest_owner.kbs.limits import DEFAULT_LIMITS
from guest_owner.kbs.minting import IdentityOrder
from guest_owner.kbs.server_certificate import (
    certificate_warnings,
    names_of,
    renew_certificate,
)
from guest_owner.kbs.service import open_service
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.exposure import exposure_warnings
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.store import Store
from guest_owner.plane.authority import (
    OWNER_AUTHORITY_FILE,
    OWNER_AUTHORITY_KEY_FILE,
    read_authority,
)
from guest_owner.plane.minting import mint_identity
from guest_owner.telling import tell, tell_logged, warn
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.tcp_address import join_address
from measured_boot.command_line.usage import as_word


def add_parser(subparsers: Subparsers) -> None:
    """Add `kbs init`, `kbs serve` and `kbs new-certificate`."""
    commands = add_group(subparsers, "kbs", "Make and run the Key Broker Service.")
    summary = "Make a state directory with certificates, token key and an empty policy."
    init = add_command(commands, "init", summary)
    add_state(init)
    init.add_argument(
        "--name",
        action="append",
        type=as_word(_check_name),
        required=True,
        metavar="NAME",
        help="DNS name or IP address by which guests reach the KBS; may be repeated",
    )
    init.set_defaults(func=_init)

    summary = "Serve attestation and resources (RCAR 0.4.0, TLS 1.3) until interrupted."
    serve = add_command(commands, "serve", summary)
    add_state(serve)
    serve.add_argument(
        "--listen",
        type=parse_address,
        default="127.0.0.1:8443",
        metavar="HOST:PORT",
        help="where to listen; [::] is all addresses, of IPv4, too; port 0 takes a free one "
        "(default: %(default)s)",
    )
    serve.add_argument(
        "--certificate", type=Path, metavar="FILE", help="PEM chain (default: server.pem of DIR)"
    )
    serve.add_argument(
        "--key", type=Path, metavar="FILE", help="PEM key (default: server-key.pem of DIR)"
    )
    serve.set_defaults(func=_serve)

    summary = "Renew the server's certificate, by the authority that guests have pinned."
    renew = add_command(commands, "new-certificate", summary)
    add_state(renew)
    renew.add_argument(
        "--name",
        action="append",
        type=as_word(_check_name),
        default=[],
        metavar="NAME",
        help="as for `kbs init`; may be repeated (default: the present names)",
    )
    renew.set_defaults(func=_renew)


def _check_name(name: str) -> str:
    general_name(name)
    return name


def _init(arguments: argparse.Namespace) -> int:
    state: Path = arguments.state
    identity = create_identity(tuple(arguments.name))
    make_directory(state)
    with changing(state):
        policy = Store(state).policy_path
        if not policy.exists():  # first: an init that ended early is not repeated
            write_atomically(policy, EMPTY_POLICY, mode=PUBLIC_MODE)
        write_identity(state, identity)
    print(f"made {state} for {', '.join(arguments.name)}")
    print(f"put the text of {state / AUTHORITY_FILE} into kbs.ca of ccinit.toml")
    print("next: guest-owner register reference|ak|initdata|resource, guest-owner policy allow")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    state: Path = arguments.state
    limits = DEFAULT_LIMITS
    tell_logged()
    host, port = arguments.listen
    certificate = arguments.certificate or state / CERTIFICATE_FILE
    service = open_service(state, limits, partial(mint_identity, state))
    server = build_server(
        service,
        limits,
        certificate=certificate,
        key=arguments.key or state / KEY_FILE,
        look=lambda: _warnings(state, certificate),
    )
    _require_readable(state)
    _warn(_warnings(state, certificate))
    # Two servers would each give out the next number of the same rollback counter.
    alone = held_alone(state, "another `kbs serve` has it")
    with alone, open_listener(host, port) as listener:
        _clean_up(state)
        # Whoever started us reads the port from this line.
        print(f"serving on https://{join_address(*listener.getsockname()[:2])}", flush=True)
        # uvicorn stops serving and then raises the interrupt again.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if not server.started:
        tell("the server did not start")
        return 1
    return 0


def _clean_up(state: Path) -> None:
    """Remove what killed processes have left behind, and check the modes of files.

    Skipped while somebody, such as a backup, holds the state: the KBS has to start all the same.
    """
    try:
        with changing(state):
            remove_unfinished(state)
            _warn(exposure_warnings(state))
    except ConfigError as error:
        if error.reason != "state.busy":
            raise
        held = f"{state / LOCK_FILE} is held, by a backup, say"
        _warn([f"{held}: nothing was cleaned up, and nobody looked who may read the state"])


def _require_readable(state: Path) -> None:
    """Find at the start what would have guests refused later.

    Raises:
        ConfigError: a file of the state directory does not parse; it names the file; as
            `read_authority`, if the owner plane's authority is here or orders need it.
    """
    store = Store(state)
    for read in (store.read_policy, store.read_references, store.read_issuers):
        read()
    mints = any(isinstance(order, IdentityOrder) for order in store.read_orders())
    Counters(state).check()
    if mints or (state / OWNER_AUTHORITY_KEY_FILE).exists():
        read_authority(state)


def _warnings(state: Path, certificate: Path) -> Iterator[str]:
    """Return today's warnings about certificates, such as that one ends soon."""
    authorities = (state / OWNER_AUTHORITY_FILE,)
    return certificate_warnings(certificate, state, datetime.now(UTC), authorities)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        warn(warning)


def _renew(arguments: argparse.Namespace) -> int:
    state: Path = arguments.state
    certificate = renew_certificate(state, tuple(arguments.name))
    ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    named = ", ".join(names_of(certificate))
    print(f"wrote {state / CERTIFICATE_FILE} for {named}, valid until {ends}")
    print("send `guest-owner kbs serve` a SIGHUP: until then it uses the old one")
    return 0
