"""What every container's life does: reports to its creator, holds the lock, ends.

`ccinit-runtime create` starts this process and leaves it to whatever reaps for the container
(conmon, a shim). Its standard error is the container's log.
"""

import argparse
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccinit.errors import CcinitError, ChildError
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.exit_status import HOST_FAILURE
from host_runtime.oci_runtime.oom_score import take_oom_score
from host_runtime.oci_runtime.opened_file import name_descriptors
from measured_boot.command_line.errors import describe_error, tell

READY: Final = "ready"
GO: Final = b"\n"
"""What `create` answers to a life that is ready, once it has written down that it runs."""


class Creator:
    """`ccinit-runtime create`, by its socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def await_record(self) -> None:
        """Report that the container is alive; return once that is recorded.

        Raises:
            ChildError: `create.ended`: the creator ended first.
        """
        self._tell({READY: True})
        if not self._connection.recv(len(GO)):
            raise ChildError("create.ended", "`create` did not record that the guest runs")
        self._connection.close()

    def refuse(self, error: CcinitError | OSError) -> None:
        """Report why there will be no life, in the container's log, too."""
        reason = error.reason if isinstance(error, CcinitError) else "host.call"
        detail = error.detail if isinstance(error, CcinitError) else describe_error(error)
        with suppress(OSError):  # it was told that the guest runs, or is gone
            self._tell({"reason": reason, "detail": name_descriptors(detail)})
        say(name_descriptors(describe_error(error)))

    def _tell(self, answer: Mapping[str, object]) -> None:
        self._connection.sendall(json.dumps(answer).encode() + b"\n")


def live(
    program: str, arguments: Sequence[str] | None, run: Callable[[Container, Creator], int]
) -> int:
    """Be a container's life; return its exit status, which is what `run` returns."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("folder", type=Path, help="of the container")
    parser.add_argument("--creator", type=int, required=True, metavar="FD", help="socket to it")
    parser.add_argument("--oom-score-adj", type=int, help="as in the bundle")
    options = parser.parse_args(arguments)
    container = Container(folder=options.folder)
    _take_oom_score(options.oom_score_adj)
    with socket.socket(fileno=options.creator) as connection:
        creator = Creator(connection)
        try:
            container.hold_life()
        except (CcinitError, OSError) as error:
            creator.refuse(error)
            return HOST_FAILURE
        status = HOST_FAILURE
        try:
            status = run(container, creator)
        except (CcinitError, OSError) as error:
            creator.refuse(error)
        finally:  # of an error that nobody expected, too, which Python ends with the same status
            with suppress(OSError):  # its folder is gone
                container.note_end(status)
        return status


def _take_oom_score(value: int | None) -> None:
    """Set the bundle's OOM score for the container's process, and so for QEMU, which inherits it.

    Lowering it takes CAP_SYS_RESOURCE: without that, say so and go on.
    """
    if value is None:
        return
    try:
        take_oom_score(value)
    except OSError as error:
        say(f"the bundle's OOM score {value} is not taken: {error.strerror}")


def say(text: str) -> None:
    """Write a line to the container's log, whether or not anybody reads it."""
    tell("ccinit-runtime", text)
