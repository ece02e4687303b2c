"""`guest-owner volume-key`: keys of persistent volumes.

A volume key is 64 bytes from the kernel's random generator; the guest derives the disk's keys from
it. Whoever loses it has lost the volume.

A LUKS2 volume that was made elsewhere has such 64 bytes as its passphrase. Sealing its header lets
the guest refuse, before parsing it, a header that the owner did not write.
"""

import argparse
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ccinit.formats.disk.luks2 import (
    COPY_BYTES,
    SEAL_KEY_BYTES,
    SEAL_OFFSET,
    make_seal,
    parse_luks2_header,
    seal_info,
)
from guest_owner.arguments import add_group, as_name
from guest_owner.files import naming, read_capped, write_new
from guest_owner.resources.contents import VOLUME_KEY_BYTES, check_volume_key
from measured_boot.command_line.subcommands import Subparsers, add_command


def add_parser(subparsers: Subparsers) -> None:
    """Add `volume-key new` and `volume-key seal-header`."""
    commands = add_group(subparsers, "volume-key", "Make keys of persistent volumes; seal headers.")
    new = add_command(commands, "new", "Write a new volume key: 64 random bytes.")
    new.add_argument("file", type=Path, metavar="FILE", help="where to write it; must not exist")
    new.set_defaults(func=_new)
    summary = "Seal the header of a LUKS2 volume that was made elsewhere."
    seal = add_command(commands, "seal-header", summary)
    seal.add_argument("disk", type=Path, metavar="DISK", help="the volume, a device or a file")
    seal.add_argument(
        "key", type=Path, metavar="KEY", help="file of the volume key that is its passphrase"
    )
    for name, meaning in (
        ("pod", "name of the pod that will open it"),
        ("volume", "name of the volume in that pod"),
    ):
        seal.add_argument(
            f"--{name}", type=as_name(f"volume_key.{name}"), required=True, help=meaning
        )
    seal.set_defaults(func=_seal)


def _new(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    key = secrets.token_bytes(VOLUME_KEY_BYTES)
    write_new(path, key, "volume_key.exists", "it may be the key of a volume")
    print(f"wrote {path}; keep a copy where the volume's loss would not take it along")
    return 0


def _seal(arguments: argparse.Namespace) -> int:
    pod, volume = arguments.pod, arguments.volume
    key = read_capped(arguments.key, VOLUME_KEY_BYTES)
    with naming(arguments.key):
        check_volume_key(key)
    with naming(arguments.disk), arguments.disk.open("r+b", buffering=0) as disk:
        header = disk.read(COPY_BYTES)
        parse_luks2_header(header)
        disk.seek(SEAL_OFFSET)
        disk.write(make_seal(header, _derive_seal_key(key, pod, volume)))
        os.fsync(disk.fileno())
    print(f"sealed the header of {arguments.disk}; seal it again after any change of it")
    return 0


def _derive_seal_key(key: bytes, pod: str, volume: str) -> bytes:
    info = seal_info(pod, volume)
    return HKDF(algorithm=SHA256(), length=SEAL_KEY_BYTES, salt=None, info=info).derive(key)
