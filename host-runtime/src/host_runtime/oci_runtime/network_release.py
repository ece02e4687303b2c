"""Gives a pod's network namespace what a guest's host process could not, since it was killed.

The namespace may outlive the container: it may be that of an ordinary container beside it.
"""

import threading
from contextlib import suppress

from ccinit.errors import CcinitError
from host_runtime.network.tap import give_back_abandoned
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.guest_plan import GuestPlan
from host_runtime.oci_runtime.network_namespace import enter_network_namespace
from host_runtime.oci_runtime.operator_config import parse_boot_options
from host_runtime.programs.thread_start import start_thread


def release_network(container: Container) -> None:
    """Let the namespace of a container that was killed answer for its address again.

    If that fails, the container can be removed all the same: the next guest tries again.
    """
    if not container.was_killed():
        return
    # It may be a pod's member, or of another version.
    with suppress(CcinitError, OSError, ValueError, TypeError):
        plan = GuestPlan.read(container.folder)
        if plan.network_namespace and parse_boot_options(plan.boot).network == "pod":
            # A namespace is a thread's own: this process stays where it is.
            thread = threading.Thread(target=_release, args=(plan.network_namespace,))
            start_thread(thread)
            thread.join()


def _release(namespace: str) -> None:
    with suppress(CcinitError, OSError):  # the engine may have removed it
        if enter_network_namespace(namespace):
            give_back_abandoned()
