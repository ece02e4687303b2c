"""The command `measured-boot verify`: whether a folder is exactly what a builder signed.

It does not say how the builder made the files: to know, build them again, or trust the key.

Specification: in-toto Statement 1 (subjects); DSSE 1.0.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ccinit.errors import ConfigError, FormatError, VerificationError
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped, reading
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.published.dsse import (
    ENVELOPE,
    IN_TOTO,
    MAX_ENVELOPE_BYTES,
    PUBLIC_KEY,
    verify_envelope,
)

_STATEMENT: Final = "https://in-toto.io/Statement/v1"


def add_verify(commands: Subparsers) -> None:
    """Add `verify`."""
    summary = "Check that a folder of published images is what its builder has signed."
    parser = add_command(commands, "verify", summary)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="as `rootfs-builder image` left it"
    )
    parser.add_argument(
        "--builder-key",
        type=Path,
        required=True,
        metavar="FILE",
        help="the builder's public key, PEM; not from the folder: its author could be anybody",
    )
    parser.set_defaults(func=_verify)


def verify_folder(folder: Path, key: Ed25519PublicKey) -> Mapping[str, str]:
    """Return the digest of each file of a folder that this builder has signed.

    Steps: (1) the envelope's signature; (2) its payload is a statement; (3) the files are exactly
    those that it names; (4) each has the digest that it names.

    Raises:
        FormatError: `dsse.form`, `provenance.form`.
        VerificationError: `dsse.…`; `provenance.files`; `provenance.digest`.
    """
    with reading(folder / ENVELOPE, MAX_ENVELOPE_BYTES) as envelope:
        subjects = _read_subjects(verify_envelope(envelope, IN_TOTO, key))  # 1, 2
    present = {path.name for path in folder.iterdir()} - {ENVELOPE, PUBLIC_KEY}
    if present != subjects.keys():  # 3
        missing, unsigned = sorted(subjects.keys() - present), sorted(present - subjects.keys())
        lists = (("missing", missing), ("not signed", unsigned))
        detail = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists if names)
        raise VerificationError("provenance.files", f"{folder}: {detail}")
    for name, digest in subjects.items():  # 4
        if not (folder / name).is_file():  # reading a pipe or a device might never end
            raise VerificationError("provenance.files", f"{folder / name} is not a file")
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise VerificationError(
                    "provenance.digest", f"{folder / name} is not what was signed"
                )
    return subjects


def _verify(options: argparse.Namespace) -> int:
    try:
        key = load_pem_public_key(read_capped(options.builder_key, MAX_KEY_BYTES))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("verify.key", f"{options.builder_key}: no PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("verify.key", f"{options.builder_key}: not an Ed25519 key")
    subjects = verify_folder(options.folder, key)
    print(f"{len(subjects)} files are what this builder has signed")
    return 0


def _read_subjects(payload: bytes) -> Mapping[str, str]:
    try:
        statement = json.loads(payload)
        rows = [(row["name"], row["digest"]["sha256"]) for row in statement["subject"]]
        kind = statement["_type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError("provenance.form", "the payload is not a statement") from error
    if kind != _STATEMENT or any("/" in str(name) for name, _ in rows):
        raise FormatError("provenance.form", "the payload is not a statement about a folder")
    return {str(name): str(digest) for name, digest in rows}
