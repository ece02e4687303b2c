"""`guest-owner volume-key`: keys of persistent volumes.

A volume key is 64 bytes from the kernel's random generator; the guest derives the disk's keys from
it. Whoever loses it has lost the volume.
"""

import argparse
import secrets
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from guest_owner.arguments import Subparsers, add_group
from guest_owner.kbs.files import write_atomically

VOLUME_KEY_BYTES = 64


def add_parser(subparsers: Subparsers) -> None:
    """Add `volume-key new`."""
    commands = add_group(subparsers, "volume-key", "Make keys of persistent volumes.")
    summary = "Write a new volume key: 64 random bytes."
    new = commands.add_parser("new", help=summary, description=summary)
    new.add_argument("file", type=Path, metavar="FILE", help="where to write it; must not exist")
    new.set_defaults(func=_new)


def check_volume_key(data: bytes) -> None:
    """Refuse what is not 64 random bytes; the guest would refuse it too, after booting.

    Raises:
        FormatError: `volume_key.…`.
    """
    if len(data) != VOLUME_KEY_BYTES:
        raise FormatError(
            "volume_key.length", f"{len(data)} bytes, a volume key has {VOLUME_KEY_BYTES}"
        )
    # One in 2^64 random keys is ASCII; a passphrase or hex digits always are.
    if data.isascii() or len(set(data)) < VOLUME_KEY_BYTES // 4:
        raise FormatError(
            "volume_key.form", "text or a pattern, not random; use `guest-owner volume-key new`"
        )


def _new(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    if path.exists():
        raise ConfigError("volume_key.exists", f"{path} exists; it may be the key of a volume")
    write_atomically(path, secrets.token_bytes(VOLUME_KEY_BYTES))
    print(f"wrote {path}; keep a copy where the volume's loss would not take it along")
    return 0
