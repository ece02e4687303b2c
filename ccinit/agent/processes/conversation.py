"""PID 1's side of a job's conversation; `children` starts the child, `running_child` ends it.

`channel` defines the frames and their order. The child may be hostile: its messages are read under
the caps of its role and decoded as the types that the caller named; anything else is a
`ChildError`.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Generic, TypeVar

from ccinit.agent.processes.channel import (
    Failure,
    FrameReader,
    Kind,
    Named,
    encode_frame,
    printable,
    to_error,
)
from ccinit.agent.processes.roles import Rights
from ccinit.errors import ChildError, FormatError
from ccinit.formats.encoding import wire
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import readable, writable
from ccinit.kernel.libc import kernel_error
from ccinit.values import frozen

R = TypeVar("R")

CHUNK_BYTES = 1 << 16


@frozen
class Answer:
    """PID 1's answer to a question; `fds` go to the child and are closed here once sent.

    An fd listed twice becomes two in the child.
    """

    value: object
    fds: tuple[int, ...] = ()


Answers = Mapping[type, Callable[..., Awaitable[Answer]]]
Notices = Mapping[type, Callable[..., None]]


class Conversation(Generic[R]):
    """One job's exchange: a request out, questions and notices in, until a result, error or end."""

    def __init__(
        self,
        connection: socket.socket,
        rights: Rights,
        reply: type[R],
        answers: Answers,
        notices: Notices,
    ) -> None:
        self._connection = connection
        self._reply = reply
        self._answers = {kind.__name__: (kind, answer) for kind, answer in answers.items()}
        self._notices = {kind.__name__: (kind, notice) for kind, notice in notices.items()}
        self._reader = FrameReader(rights.reply_bytes)
        self._messages_left = rights.messages

    async def hold(self, request: object) -> R | None:
        """Send the request and converse; None if the child closes the channel without a result."""
        await self._send(encode_frame(Kind.REQUEST, request), ())
        while data := await self._receive():
            for kind, payload in self._cut(data):
                match kind:
                    case Kind.RESULT:
                        return _decode(self._reply, payload)
                    case Kind.FAILURE:
                        raise to_error(_decode(Failure, payload))
                    case Kind.QUESTION:
                        await self._answer(_decode(Named, payload))
                    case Kind.NOTICE:
                        self._take_notice(_decode(Named, payload))
                    case Kind.REQUEST | Kind.ANSWER:
                        raise ChildError("child.protocol", f"{kind.name} from a child")
        return None

    def _cut(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        try:
            for frame in self._reader.feed(data):
                self._messages_left -= 1
                if self._messages_left < 0:
                    raise ChildError("child.protocol", "too many messages")
                yield frame
        except FormatError as error:
            raise ChildError("child.protocol", str(error)) from error

    async def _answer(self, question: Named) -> None:
        if question.name not in self._answers:
            raise ChildError("child.protocol", "a question that nobody answers")
        kind, handler = self._answers[question.name]
        answer = await handler(_decode(kind, question.body))
        try:
            await self._send(encode_frame(Kind.ANSWER, answer.value), answer.fds)
        finally:
            close_all(set(answer.fds))

    def _take_notice(self, notice: Named) -> None:
        if notice.name not in self._notices:
            raise ChildError("child.protocol", "a notice that nobody hears")
        kind, handler = self._notices[notice.name]
        handler(_decode(kind, notice.body))

    async def _send(self, data: bytes, fds: tuple[int, ...]) -> None:
        rest = memoryview(data)
        while rest:
            await writable(self._connection.fileno())
            try:
                sent = socket.send_fds(self._connection, (rest,), fds)
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return  # it has ended; what it sent before is still to be read
            except OSError as error:
                raise kernel_error(error, "sendmsg", "child") from error
            rest, fds = rest[sent:], ()

    async def _receive(self) -> bytes:
        while True:
            await readable(self._connection.fileno())
            try:
                # Not recvmsg: fds that a child attaches are dropped by the kernel, which closes
                # them in this process. So `syscall_sets` leaves none that takes long to close.
                return self._connection.recv(CHUNK_BYTES)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return b""
            except OSError as error:
                raise kernel_error(error, "recv", "child") from error


def _decode(kind: type[R], payload: bytes) -> R:
    try:
        return wire.decode(kind, payload)
    except FormatError as error:
        raise ChildError("child.protocol", printable(str(error))) from error
