"""The key that seals what guests carry for this KBS: `request.key`, 32 bytes, private.

It is made when the first certificate is registered for a platform whose evidence answers a request,
and never replaced, since what it has sealed would no longer open. Sealing itself is
`guest_owner.kbs.attestation_requests.sealing`.
"""

import os
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from guest_owner.files import is_file, read_capped, write_atomically
from guest_owner.kbs.attestation_requests.sealing import SEALING_KEY_BYTES

REQUEST_KEY_FILE: Final = "request.key"


def read_request_key(state: Path) -> bytes | None:
    """Return the key of a state directory, None if it has none.

    Raises:
        ConfigError: `state.request_key`, it has another length; `state.read`, `state.size`.
    """
    path = state / REQUEST_KEY_FILE
    if not is_file(path):
        return None
    key = read_capped(path, SEALING_KEY_BYTES)
    if len(key) != SEALING_KEY_BYTES:
        found = f"{path}: expected {SEALING_KEY_BYTES} bytes, found {len(key)}"
        raise ConfigError("state.request_key", f"{found}: put its copy back")
    return key


def ensure_request_key(state: Path) -> None:
    """Make the key if there is none; the caller holds the state's lock."""
    if read_request_key(state) is None:
        write_atomically(state / REQUEST_KEY_FILE, os.urandom(SEALING_KEY_BYTES))
