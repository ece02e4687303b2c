"""Who may administer the KBS over the network: public keys in `admin-keys/` of its directory.

`token` beside this says how a key's holder shows it, `calls` what they may do.
"""

from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from guest_owner.files import is_file
from guest_owner.kbs.administration.token import AdminKey, parse_admin_key
from guest_owner.kbs.exclusion import changing
from guest_owner.kbs.references.values import check_name
from guest_owner.kbs.state.registrations import Folder, write_registrations

_FOLDER: Final = "admin-keys"
_MAX_KEY_BYTES: Final = 4096


def read_administrators(state: Path) -> tuple[AdminKey, ...]:
    """Return all administrators; whoever asks reads afresh, so that a removal counts at once.

    Args:
        state: the KBS's directory.

    Raises:
        ConfigError: as `Folder.read`.
    """
    return Folder(state / _FOLDER, ".pem", _MAX_KEY_BYTES, parse_admin_key).read()


def add_administrator(state: Path, name: str, pem: bytes) -> None:
    """Register a public key.

    Raises:
        FormatError: `admin.name`, `admin.key`.
        ConfigError: `admin.exists`, the audit log could not tell two of the same name apart.
    """
    check_name(name, "admin.name")
    parse_admin_key(name, pem)
    file = f"{_FOLDER}/{name}.pem"
    with changing(state):
        if is_file(state / file):
            raise ConfigError("admin.exists", f"there is an administrator {name}: {file}")
        write_registrations(state, {file: pem})
