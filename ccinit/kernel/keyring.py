"""The kernel keyring (keyrings(7)): a place for dm-crypt's key that user space cannot read back.

Keys have the type `logon`: the kernel uses them but never returns their content. They live in the
process keyring, which only this process searches and which goes with it.
"""

from typing import NewType

from ccinit.kernel.libc import syscall
from ccinit.secret import Secret

KeySerial = NewType("KeySerial", int)

_SYS_ADD_KEY = 248
_SYS_KEYCTL = 250
_KEYCTL_REVOKE = 3
_KEYCTL_UNLINK = 9
_KEY_SPEC_PROCESS_KEYRING = -2


def add_logon_key(description: str, payload: Secret) -> KeySerial:
    """Add a key to the process keyring.

    Args:
        description: `prefix:name`; the kernel refuses a logon key without the colon.
        payload: the key bytes.

    Raises:
        KernelError: `kernel.keyring.add`.
    """
    content = payload.reveal()
    serial = syscall(
        _SYS_ADD_KEY,
        b"logon",
        description.encode(),
        content,
        len(content),
        _KEY_SPEC_PROCESS_KEYRING,
        operation="keyring.add",
        target=description,
    )
    return KeySerial(serial)


def remove_key(serial: KeySerial) -> None:
    """Revoke the key, so that no later table can name it, and unlink it.

    What the kernel copied from it (dm-crypt's own copy) stays in use.

    Raises:
        KernelError: `kernel.keyring.revoke` or `kernel.keyring.unlink`.
    """
    target = str(serial)
    syscall(_SYS_KEYCTL, _KEYCTL_REVOKE, serial, operation="keyring.revoke", target=target)
    syscall(
        _SYS_KEYCTL,
        _KEYCTL_UNLINK,
        serial,
        _KEY_SPEC_PROCESS_KEYRING,
        operation="keyring.unlink",
        target=target,
    )
