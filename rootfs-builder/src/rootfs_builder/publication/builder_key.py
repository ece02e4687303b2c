"""The builder's signing key: one file, made on first use, never among published files."""

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ccinit.errors import ConfigError
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped, write_whole

_OWNER_ONLY: Final = 0o600


def open_builder_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in `path`, made and written there if the file does not exist.

    Raises:
        ConfigError: `builder_key.form`: the file holds something else.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Ed25519PrivateKey.generate()
        data = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_whole(path, data, _OWNER_ONLY)
    try:
        key = load_pem_private_key(read_capped(path, MAX_KEY_BYTES), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("builder_key.form", f"{path} is no unencrypted PEM key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("builder_key.form", f"{path} is not an Ed25519 key")
    return key
