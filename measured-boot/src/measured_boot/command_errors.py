"""What a command says when it fails: one form for `measured-boot` and the three beside it.

As in `host-runtime: no guest answers on port 1024 (…): is it booted? [vsock.refused]`.
"""

import os

from ccinit.errors import CcinitError


def describe_error(error: CcinitError | OSError) -> str:
    """Return what failed and why, followed by the reason to search for if there is one."""
    if isinstance(error, CcinitError):
        return f"{error.detail} [{error.reason}]"
    if error.filename is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"
