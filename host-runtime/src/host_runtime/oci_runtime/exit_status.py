"""The end of a guest as a container's exit status. Pure.

A guest tells its pod's exit code only if the measured manifest lets the host know it
(`exit_code_to_host`). Otherwise 0 means no more than an orderly end: the pod was stopped, or its
main containers have ended.
"""

from typing import Final

from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason
from host_runtime.plane.rpc_client import GuestState

HOST_FAILURE: Final = 1
"""QEMU or the host failed, or the guest ended without having said why."""

KILLED: Final = 137
"""Of a container whose guest was ended; 128 and SIGKILL's number, as shells have it."""

_ORDERLY: Final = frozenset({Code.OK, Code.WORKLOAD_EXIT})


def exit_status(end: EndReason, last: GuestState | None, pod_exit_code: int | None = None) -> int:
    """Return the status for a guest that ended like this, after the state `last`.

    It is the pod's exit code if the pod ended by itself and the guest told it; 0 for any other
    orderly end; else the number of the guest's code, which is never 1 nor above 255.
    """
    if end is not EndReason.RESET or last is None or last.phase < Phase.STOP:
        return HOST_FAILURE
    if last.code not in _ORDERLY:
        return last.code.value
    return pod_exit_code or 0
