"""QEMU's machine protocol: commands out, events in and to a file (QEMU's qmp-spec).

Blocking, with a deadline on every call. A guest can cause as many events as it likes (each byte
written to a panic device is one), so the file ends after its first MiB. `host_runtime.launch.guest`
interprets the events.
"""

import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ccinit.errors import DeadlineError, PeerError
from measured_boot.command_line.errors import describe_error

_CALL_SECONDS: Final = 30.0
_MAX_LINE_BYTES: Final = 1024 * 1024
_MAX_LOG_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class QmpEvent:
    """One event: its name and data, as QEMU sent them."""

    name: str
    data: Mapping[str, object]


class QmpClient:
    """One QMP connection; a context manager. Events are also appended to a file, as lines."""

    def __init__(self, path: Path, event_log: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._events: list[QmpEvent] = []
        self._event_log = event_log
        self._buffer = b""
        self._is_closed = False
        try:
            self._socket.connect(str(path))
            self._next_message(_CALL_SECONDS)  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def execute(self, command: str, **arguments: object) -> Mapping[str, object]:
        """Run `command` and return what it returns; events meanwhile are kept.

        Raises:
            PeerError: `qmp.refused`: QEMU says no; `qmp.closed`: QEMU is gone.
            DeadlineError: `qmp.silent`: no answer in 30 s.
        """
        request = {"execute": command, "arguments": arguments}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise PeerError("qmp.closed", f"{command}: {describe_error(error)}") from error
        deadline = time.monotonic() + _CALL_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            message = self._next_message(left)
            if message is None:
                raise PeerError("qmp.closed", f"QEMU ended before it answered {command}")
            if "error" in message:
                raise PeerError("qmp.refused", f"{command}: {message['error']}")
            if "return" in message:
                result = message["return"]
                return result if isinstance(result, dict) else {"value": result}
        raise DeadlineError("qmp.silent", f"QEMU sent many messages, but no answer to {command}")

    def next_event(self, seconds: float) -> QmpEvent | None:
        """Return the next event, or None once QEMU has closed the connection.

        Raises:
            DeadlineError: `qmp.silent`: neither happened within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self._events:
            if self._next_message(max(0.0, deadline - time.monotonic())) is None:
                return None
        return self._events.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _next_message(self, seconds: float) -> Mapping[str, object] | None:
        line = self._next_line(seconds)
        if line is None:
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PeerError("qmp.message", f"no JSON: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise PeerError("qmp.message", "expected an object")
        if "event" in message:
            self._record(line)
            data = message.get("data")
            known = data if isinstance(data, dict) else {}
            self._events.append(QmpEvent(name=str(message["event"]), data=known))
        return message

    def _record(self, line: bytes) -> None:
        # A full disk, perhaps filled by the guest's own output, is no reason to end the guest.
        with suppress(OSError), self._event_log.open("ab") as log:
            if log.tell() < _MAX_LOG_BYTES:
                log.write(line + b"\n")

    def _next_line(self, seconds: float) -> bytes | None:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if self._is_closed:
                return None
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise DeadlineError("qmp.silent", "QEMU said nothing in time") from error
            except OSError:  # reset by a QEMU that was killed
                data = b""
            self._is_closed = not data
            self._buffer += data
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise PeerError("qmp.message", "a line of more than 1 MiB")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
