"""The process that is a container's life: boots its guest, is its host, ends with its end.

`ccinit-runtime create` starts it and leaves it to whoever reaps for the container (conmon, a shim).
Killed, it takes QEMU with it. Its standard error is the container's log.
"""

import argparse
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from ccinit.errors import CcinitError, ChildError
from host_runtime.boot_command import plan_boot
from host_runtime.launcher import GuestConfig, boot_guest
from host_runtime.oci_runtime.container_store import Container, write_whole
from host_runtime.oci_runtime.exit_status import HOST_FAILURE, exit_status
from host_runtime.oci_runtime.guest_host import GuestHost
from host_runtime.oci_runtime.network_namespace import enter_network_namespace
from host_runtime.oci_runtime.opened_file import name_descriptors
from host_runtime.oci_runtime.operator_config import parse_boot_options
from host_runtime.oci_runtime.wishes import Wishes
from measured_boot.command_errors import describe_error

READY: Final = "ready"
GO: Final = b"\n"
"""What `create` answers to a guest that is ready, once it has written down that it runs."""

_PLAN: Final = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """What `create` has decided.

    Attributes:
        boot: words of `host-runtime boot`.
        descriptors: of this process, by which some of its disks are named.
        network_namespace: see `Bundle`.
        sealed_log: path of a file that is not there yet.
    """

    boot: Sequence[str]
    descriptors: Sequence[int]
    network_namespace: str | None
    stop_grace_seconds: int
    sealed_log: str
    sealed_log_bytes: int

    def write(self, folder: Path) -> None:
        """Leave the plan in a container's folder."""
        write_whole(folder / _PLAN, json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "GuestPlan":
        """Return the plan that `create` left."""
        return cls(**json.loads((folder / _PLAN).read_text()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a container's guest; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m host_runtime.oci_runtime.supervisor")
    parser.add_argument("folder", type=Path, help="of the container")
    parser.add_argument("--creator", type=int, required=True, metavar="FD", help="socket to it")
    options = parser.parse_args(arguments)
    with socket.socket(fileno=options.creator) as creator:
        try:
            return _supervise(Container(folder=options.folder), creator)
        except (CcinitError, OSError) as error:
            reason = error.reason if isinstance(error, CcinitError) else "host.call"
            detail = error.detail if isinstance(error, CcinitError) else describe_error(error)
            with suppress(OSError):  # it was told that the guest runs, or is gone
                _tell(creator, {"reason": reason, "detail": name_descriptors(detail)})
            _say(name_descriptors(describe_error(error)))
            return HOST_FAILURE


def _supervise(container: Container, creator: socket.socket) -> int:
    container.hold_life()
    wishes = Wishes()
    wishes.take_signals()
    plan = GuestPlan.read(container.folder)
    enter_network_namespace(plan.network_namespace)
    config: GuestConfig = replace(
        plan_boot(parse_boot_options(plan.boot)),
        descriptors=tuple(plan.descriptors),
        lock=container.hold_machine(),
    )
    with boot_guest(config, _say) as guest:
        _tell(creator, {READY: True})
        if not creator.recv(len(GO)):
            raise ChildError("create.ended", "nobody has written down that the guest runs")
        creator.close()
        host = GuestHost(
            guest,
            wishes,
            network=config.network,
            grace_seconds=plan.stop_grace_seconds,
            sealed_log=Path(plan.sealed_log),
            sealed_log_bytes=plan.sealed_log_bytes,
            say=_say,
        )
        end = host.accompany()
    status = exit_status(end, host.last, host.pod_exit_code)
    _say(f"ended: {end}; exit status {status}")
    guest.require_sound_end()
    return status


def _tell(creator: socket.socket, answer: Mapping[str, object]) -> None:
    creator.sendall(json.dumps(answer).encode() + b"\n")


def _say(text: str) -> None:
    """Write a line of the container's log; nobody has to read it."""
    try:
        print(f"ccinit-runtime: {text}", file=sys.stderr, flush=True)
    except OSError:  # nor does it change the exit status, when Python writes what is left
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.stderr.fileno())
        os.close(null)


if __name__ == "__main__":
    raise SystemExit(main())
