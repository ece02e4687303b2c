"""One client's calls and credits, without a socket.

Theory of operation
    Bytes from the client become events: a `Call` to carry out, `Data` for a call that is open.
    What goes back is collected as bytes for whoever sends them. A call is open until `end`; each
    open call has two windows of 64 KiB, one for each direction:

        to the client   shrinks by `send`, grows by the client's credit, never beyond 64 KiB
        to the guest    shrinks by the client's data, grows by `consume`

    So neither side ever holds more than a window for a call whose other end does not move. A client
    that breaks a rule (data without credit, credit beyond the window, an id in use) loses the
    connection. Messages about a call that has just ended are dropped: they were on their way.
"""

from collections.abc import Iterator

from ccinit.errors import PeerError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import (
    MAX_CALLS,
    METHODS,
    WINDOW_BYTES,
    Method,
    Stream,
    Value,
)
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    MessageReader,
    Refused,
    Reply,
    Request,
    encode_credit,
    encode_data,
    encode_refusal,
    encode_reply,
    params_of,
)
from ccinit.owner.messages import CallEnd
from ccinit.values import frozen

_INBOUND = frozenset({Stream.INPUT, Stream.RESIZE})


@frozen
class Call:
    """A call of a known method with parameters of its schema."""

    id: int
    method: Method
    params: tuple[Value, ...]


class _Windows:
    __slots__ = ("method", "owed", "to_client", "to_guest")

    def __init__(self, method: Method) -> None:
        self.method = method
        self.to_client = WINDOW_BYTES
        self.to_guest = WINDOW_BYTES
        self.owed = 0  # consumed, and not yet told to the client


class Session:
    """The calls of one connection.

    Attributes:
        output: bytes for the client; the sender removes them.
    """

    def __init__(self) -> None:
        self.output = bytearray()
        self._reader = MessageReader(of_guest=True)
        self._open: dict[int, _Windows] = {}
        self._messages = 0

    @property
    def unfinished(self) -> int | None:
        """Number of the message that has begun and is not complete; None if there is none."""
        return self._messages if self._reader.unfinished else None

    @property
    def is_idle(self) -> bool:
        """Whether no call is open."""
        return not self._open

    def feed(self, data: bytes) -> Iterator[Call | Data]:
        """Take bytes from the client; yield what has to be done.

        Raises:
            FormatError, LimitExceededError: `owner.message`.
            PeerError: `owner.credit`, `owner.msgid`, `owner.stream`.
        """
        for message in self._reader.feed(data):
            self._messages += 1
            match message:
                case Request():
                    yield from self._request(message)
                case Data():
                    yield from self._data(message)
                case Credit():
                    self._credit(message)
                case Reply():
                    raise PeerError("owner.message", "a reply to nothing")

    def room(self, call: int) -> int:
        """How many bytes of this call the client is ready to take."""
        return self._open[call].to_client

    def send(self, call: int, fd: int, content: bytes) -> None:
        """Send bytes of a stream, at most `room`; no bytes end that fd."""
        windows = self._open[call]
        if len(content) > windows.to_client:
            raise RuntimeError("more data than credit")
        windows.to_client -= len(content)
        self.output += encode_data(Data(id=call, fd=fd, content=content))

    def consume(self, call: int, count: int) -> None:
        """Note that `count` bytes from the client have reached their end; it may send more."""
        windows = self._open[call]
        windows.owed += count
        if windows.owed >= WINDOW_BYTES // 2:
            self.output += encode_credit(Credit(id=call, count=windows.owed))
            windows.to_guest += windows.owed
            windows.owed = 0

    def end(self, call: int, end: CallEnd) -> None:
        """End a call with its result or a refusal, even one that was never open."""
        self._open.pop(call, None)
        if end.code:
            refused = Refused(code=RpcError(end.code), reason=end.reason, detail=end.detail)
            self.output += encode_refusal(call, refused)
        else:
            self.output += encode_reply(call, end.result)

    def _request(self, request: Request) -> Iterator[Call]:
        if request.msgid in self._open:
            raise PeerError("owner.msgid", "the id of a call that is still open")
        method = METHODS.get(request.method)
        if method is None:
            self._answer(request.msgid, RpcError.BADREQ, "owner.method", "no such method")
        elif (params := params_of(method, request.params)) is None:
            self._answer(request.msgid, RpcError.BADREQ, "owner.params", method.name)
        elif len(self._open) == MAX_CALLS:
            self._answer(request.msgid, RpcError.BUSY, "owner.calls", f"{MAX_CALLS} are open")
        else:
            self._open[request.msgid] = _Windows(method)
            yield Call(id=request.msgid, method=method, params=params)

    def _answer(self, call: int, code: RpcError, reason: str, detail: str) -> None:
        self.end(call, CallEnd(code=code, reason=reason, detail=detail))

    def _data(self, data: Data) -> Iterator[Data]:
        windows = self._open.get(data.id)
        if windows is None:
            return
        if data.fd not in _INBOUND or data.fd not in windows.method.streams:
            raise PeerError("owner.stream", f"{windows.method.name} takes no data on {data.fd}")
        if len(data.content) > windows.to_guest:
            raise PeerError("owner.credit", "data without credit")
        windows.to_guest -= len(data.content)
        yield data

    def _credit(self, credit: Credit) -> None:
        windows = self._open.get(credit.id)
        if windows is None:
            return
        if windows.to_client + credit.count > WINDOW_BYTES:
            raise PeerError("owner.credit", "credit beyond the window")
        windows.to_client += credit.count
