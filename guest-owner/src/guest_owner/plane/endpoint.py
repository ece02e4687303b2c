"""Command-line options that every command of the owner plane shares."""

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ccinit.errors import CcinitError, ConfigError
from guest_owner.arguments import add_state, as_name, parse_address
from guest_owner.certificates import parse_certificate
from guest_owner.files import read_capped
from guest_owner.kbs.authority import MAX_PEM_BYTES
from guest_owner.plane.authority import OWNER_AUTHORITY_FILE
from guest_owner.plane.client import Endpoint, OwnerClient
from measured_boot.command_line.usage import UsageError

CONNECT_VARIABLE: Final = "GUEST_OWNER_CONNECT"
CLIENT_VARIABLE: Final = "GUEST_OWNER_CLIENT"
POD_VARIABLE: Final = "GUEST_OWNER_POD"
_PORT: Final = "the pod's owner port, or the host's relay"
_POD: Final = "pod whose name the guest's certificate must bear"
_CLIENT: Final = "your key and certificate (`client-cert new`)"
_OPTIONS: Final[tuple[tuple[str, str, Callable[[str], object], str, str], ...]] = (
    ("connect", CONNECT_VARIABLE, parse_address, "HOST:PORT", _PORT),
    ("pod", POD_VARIABLE, as_name("owner.pod"), "NAME", _POD),
    ("client", CLIENT_VARIABLE, Path, "FILE", _CLIENT),
)


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Add where the guest is, who it must be, and who asks."""
    group = parser.add_argument_group("connection")
    for option, variable, parse, metavar, text in _OPTIONS:
        group.add_argument(
            f"--{option}",
            type=parse,
            default=os.environ.get(variable) or None,
            metavar=metavar,
            help=f"{text} (default: ${variable})",
        )
    group.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help=f"root of the guest's certificate (default: {OWNER_AUTHORITY_FILE} of the state)",
    )
    add_state(parser)


def connect(arguments: argparse.Namespace) -> OwnerClient:
    """Connect as the options say.

    Raises:
        UsageError: `owner.options`, one is missing.
        ConfigError: `owner.identity`, yours has ended.
        CcinitError: see `OwnerClient.connect`.
    """
    for option, variable, *_ in _OPTIONS:
        if getattr(arguments, option) is None:
            detail = f"give --{option} before the command's other words, or set ${variable}"
            raise UsageError("owner.options", detail)
    _require_current(arguments.client)
    host, port = arguments.connect
    return OwnerClient.connect(
        Endpoint(
            host=host,
            port=port,
            pod=arguments.pod,
            roots=arguments.ca or arguments.state / OWNER_AUTHORITY_FILE,
            identity=arguments.client,
        )
    )


def _require_current(identity: Path) -> None:
    """Refuse an expired certificate here: the guest's refusal would only be an alert, or a reset.

    Raises:
        ConfigError: `owner.identity`.
    """
    try:
        certificate = parse_certificate(read_capped(identity, MAX_PEM_BYTES))
    except CcinitError:
        return  # connecting will say what is wrong with the file
    ends = certificate.not_valid_after_utc
    if ends <= datetime.now(UTC):
        expired = f"{identity}, your certificate, expired on {ends:%Y-%m-%d}"
        raise ConfigError("owner.identity", f"{expired}: make one with `client-cert new`")
