"""The builder's signing key: one file, made on first use, never among published files."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ccinit.errors import ConfigError
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped
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
    if not path.exists():  # a key that was given may lie where nothing can be written
        make_key_once(path, path.with_name(f"{path.name}.lock"), progress, _make)
    try:
        key = load_pem_private_key(read_capped(path, MAX_KEY_BYTES), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("builder_key.form", f"{path} is no unencrypted PEM key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("builder_key.form", f"{path} is not an Ed25519 key")
    return key


def _make() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
