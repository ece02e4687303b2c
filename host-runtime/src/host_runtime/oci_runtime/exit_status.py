"""What the end of a guest is as a container's exit status. Pure.

A guest does not say what its pod has returned, so 0 is an orderly end and nothing more: it was
stopped, or its main containers have ended. This is the one place that would know better.
"""

from typing import Final

from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.guest import EndReason
from host_runtime.rpc_client import GuestState

HOST_FAILURE: Final = 1
"""QEMU or the host failed, or the guest went without having said why."""

_ORDERLY: Final = frozenset({Code.OK, Code.WORKLOAD_EXIT})


def exit_status(end: EndReason, last: GuestState | None) -> int:
    """Return the status for a guest that ended so, having said `last`: else 0, the code's number.

    Codes fit: none is above 255, and 1 is none of them.
    """
    if end is not EndReason.RESET or last is None or last.phase < Phase.STOP:
        return HOST_FAILURE
    return 0 if last.code in _ORDERLY else last.code.value
