"""The descriptors of one open call, and the bytes between them and its session.

This module moves what descriptors and credits allow, and detects the end: what PID 1 writes to the
port END or, for a file, its last byte or an error. PID 1 writes to the port END of a file only to
have it closed. Nothing here blocks: an output is read only if the client has room for it, and input
waits in a buffer that its credit bounds. Left to others are waiting (`ccinit.owner.connection`) and
the other ends of the descriptors.
"""

import errno
import os
import select
import struct
from typing import Final

from ccinit.errors import errno_text
from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import MAX_COPY_BYTES, Stream
from ccinit.formats.planes.owner_wire import Data, encode_result
from ccinit.kernel.clock import boottime
from ccinit.kernel.terminal import set_window_size
from ccinit.owner.messages import MAX_END_BYTES, CallEnd, Flow, Port
from ccinit.owner.session import Call, Session

DRAIN_SECONDS: Final = 2.0  # for outputs that another process still holds open after the end
CHUNK_BYTES: Final = 16 * 1024
_SIZE: Final = struct.Struct(">HH")


class OpenCall:
    """One streaming call between its answer and its end.

    Attributes:
        is_over: whether it has ended and is to be closed.
    """

    def __init__(self, call: Call, ports: tuple[Port, ...], descriptors: tuple[int, ...]) -> None:
        """Args: descriptors: of `ports`, in the same order; closed by `close`."""
        self.id = call.id
        self.is_over = False
        self._method = call.method
        self._moved_bytes = 0
        self._outputs: dict[int, int] = {}  # descriptor: fd of `data`
        self._input = self._resize = self._end = -1
        self._waiting = bytearray()
        self._input_ended = False
        self._end_bytes = b""
        self._ended: CallEnd | None = None
        self._quiet_since = boottime()
        for port, descriptor in zip(ports, descriptors, strict=True):
            os.set_blocking(descriptor, False)
            match port.flow:
                case Flow.INPUT:
                    self._input = descriptor
                case Flow.OUTPUT:
                    self._outputs[descriptor] = port.fd
                case Flow.RESIZE:
                    self._resize = descriptor
                case Flow.END:
                    self._end = descriptor
        self._is_file = call.method.name == "copy"

    @property
    def is_ending(self) -> bool:
        """Whether only outputs are left, which get a limited time."""
        return self._ended is not None

    def urgent_interests(self) -> dict[int, int]:
        """Return what to poll for even while nothing can be moved: a file has to be closed."""
        return {self._end: select.POLLIN} if self._is_file and self._end >= 0 else {}

    def interests(self, session: Session) -> dict[int, int]:
        """Return what to poll for: descriptor and events."""
        wanted: dict[int, int] = {}
        if session.room(self.id):
            wanted |= dict.fromkeys(self._outputs, select.POLLIN)
        if self._input >= 0 and self._waiting:
            wanted[self._input] = select.POLLOUT
        if self._end >= 0:
            wanted[self._end] = select.POLLIN
        return wanted

    def take(self, data: Data, session: Session) -> None:
        """Take data of the client."""
        if data.fd == Stream.RESIZE:
            if self._resize >= 0 and len(data.content) == _SIZE.size:
                set_window_size(self._resize, *_SIZE.unpack(data.content))
            session.consume(self.id, len(data.content))
            return
        if self._input < 0 or self._input_ended:
            session.consume(self.id, len(data.content))  # nothing reads it after the end
            return
        self._waiting += data.content
        self._input_ended = not data.content
        self._end_input_if_due()
        if self._is_file:
            self._end_file_if_due()

    def release(self, ready: dict[int, int], session: Session) -> None:
        """Close a file that PID 1 wants closed, with which its copy is over; arguments as `move`.

        PID 1 waits for that until it closes the file's disk, and then may end this child. So its
        pipe stays open: it is for `close`, once the client has been told.
        """
        if not self._is_file or self._end not in ready:
            return
        told = wire.decode(CallEnd, os.read(self._end, MAX_END_BYTES))  # one write is one read
        end, self._end = self._end, -1
        self.close()
        self._end = end
        self._finish(self._ended or told, session)  # if all has been moved, that is the end

    def move(self, ready: dict[int, int], session: Session) -> None:
        """Move what can be moved.

        Args:
            ready: descriptors that poll found, with their events.
            session: of this call's connection.
        """
        self.release(ready, session)
        if self.is_over:
            return
        for descriptor in tuple(self._outputs):
            if descriptor in ready:
                self._read_output(descriptor, session)
        if self._input in ready:
            self._write_input(ready[self._input], session)
        if self._is_file:
            self._end_file_if_due()
        elif self._end in ready:
            self._read_end()
        if self._ended is not None and self._is_drained(session):
            self._finish(self._ended, session)

    def _finish(self, end: CallEnd, session: Session) -> None:
        self.is_over = True
        session.end(self.id, end)

    def close(self) -> None:
        """Close every descriptor, that of END last."""
        for descriptor in (*self._outputs, self._input, self._resize, self._end):
            if descriptor >= 0:
                os.close(descriptor)
        self._outputs = {}
        self._input = self._resize = self._end = -1

    def _read_output(self, descriptor: int, session: Session) -> None:
        room = session.room(self.id)
        if not room:
            return
        try:
            content = os.read(descriptor, min(room, CHUNK_BYTES))
        except BlockingIOError:
            return
        except OSError as error:
            if self._is_file:
                self._give_up("owner.copy", errno_text(error.errno))
                return
            if error.errno != errno.EIO:  # which a terminal returns once no process has it open
                raise
            content = b""
        self._quiet_since = boottime()
        self._moved_bytes += len(content)
        session.send(self.id, self._outputs[descriptor], content)
        if not content:
            del self._outputs[descriptor]
            os.close(descriptor)

    def _write_input(self, events: int, session: Session) -> None:
        if events & select.POLLHUP:  # a terminal that no process has open, which only fills up
            self._consume_input(len(self._waiting), session)
            return
        try:
            count = os.write(self._input, self._waiting)
        except BlockingIOError:
            return
        except BrokenPipeError:  # the reader is gone: count the rest as consumed
            count = len(self._waiting)
        except OSError as error:
            if not self._is_file:
                raise
            # Full, say: the client has to know that its file is not whole.
            self._give_up("owner.copy", errno_text(error.errno))
            return
        self._consume_input(count, session)

    def _consume_input(self, count: int, session: Session) -> None:
        del self._waiting[:count]
        self._moved_bytes += count
        session.consume(self.id, count)
        self._end_input_if_due()

    def _end_input_if_due(self) -> None:
        if self._input_ended and not self._waiting and self._input >= 0:
            os.close(self._input)
            self._input = -1

    def _read_end(self) -> None:
        content = os.read(self._end, MAX_END_BYTES)
        self._end_bytes += content
        if content and len(self._end_bytes) <= MAX_END_BYTES:
            return
        os.close(self._end)
        self._end = -1
        self._quiet_since = boottime()
        self._ended = wire.decode(CallEnd, self._end_bytes)

    def _end_file_if_due(self) -> None:
        if self._moved_bytes > MAX_COPY_BYTES:
            self._give_up("owner.copy_size", f"{MAX_COPY_BYTES} bytes")
        elif self._input < 0 and not self._outputs and self._ended is None:
            self._ended = CallEnd(result=encode_result(self._method, (self._moved_bytes,)))

    def _give_up(self, reason: str, detail: str) -> None:
        self._ended = CallEnd(code=RpcError.FAILED, reason=reason, detail=detail)
        self.close()

    def _is_drained(self, session: Session) -> bool:
        if not self._outputs:
            return True
        if not session.room(self.id):
            self._quiet_since = boottime()  # the client's turn: the time does not count
        return boottime() - self._quiet_since >= DRAIN_SECONDS
