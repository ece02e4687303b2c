"""`[share]` of `pod.toml`: what containers share besides the network."""

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.values import frozen

_PAGE_BYTES = 4096
_MIN_SHM_BYTES, _MAX_SHM_BYTES = 1 << 20, 1 << 40
_SHM_BYTES = 64 << 20


@frozen
class Share:
    """By default nothing of this is shared.

    Attributes:
        ipc: one IPC namespace and one /dev/shm for all containers.
        process: one PID namespace for the main ones.
        shm_bytes: of that /dev/shm, and of all System V shared memory.
    """

    ipc: bool = False
    process: bool = False
    shm_bytes: int = _SHM_BYTES


def read_share(fields: Fields) -> Share:
    """Read the table.

    Raises:
        FormatError: `pod.share.…`.
    """
    share = Share(
        ipc=fields.boolean("ipc", default=False),
        process=fields.boolean("process", default=False),
        shm_bytes=fields.integer(
            "shm_bytes", low=_MIN_SHM_BYTES, high=_MAX_SHM_BYTES, default=_SHM_BYTES
        ),
    )
    if fields.has("shm_bytes") and not share.ipc:
        raise FormatError("pod.share.shm_bytes", "only a /dev/shm that is shared has it")
    if share.shm_bytes % _PAGE_BYTES:
        raise FormatError("pod.share.shm_bytes", f"not a multiple of {_PAGE_BYTES}")
    return share
