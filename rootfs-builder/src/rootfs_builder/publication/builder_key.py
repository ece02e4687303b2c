"""The builder's signing key: one file, made on first use, and never published."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped
from measured_boot.command_line.private_keys import ed25519_key
from rootfs_builder.key_file import make_key_once
from rootfs_builder.progress import Progress


def open_builder_key(path: Path, progress: Progress) -> Ed25519PrivateKey:
    """Return the key in `path`, made and written there if the file does not exist.

    Args:
        path: the file; whoever makes it holds `….lock` beside it.
        progress: where to say that somebody else is making it.

    Raises:
        ConfigError: `builder_key.form`: the file holds something else.
    """
    if not path.exists():  # an existing key may be where we cannot write
        make_key_once(path, path.with_name(f"{path.name}.lock"), progress, _make)
    return ed25519_key(read_capped(path, MAX_KEY_BYTES), path, "builder_key.form")


def _make() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
