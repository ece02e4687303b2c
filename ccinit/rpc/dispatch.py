"""One request in, one reply of fixed size out.

Checks are ordered by what they cost and what they reveal: first method and parameters (`BADREQ`),
then the phase (`NOT_NOW`), then the service runs. Nothing of a refused request is kept or echoed
except its msgid.
"""

import socket

from ccinit.annotations import Protocol
from ccinit.formats.planes.host_rpc import METHODS, REPLY_BYTES, Method, Phase, RpcError, Value
from ccinit.formats.planes.msgpack_rpc import (
    Request,
    encode_error,
    encode_result,
    params_of,
)
from ccinit.values import frozen


class Refusal(Exception):  # noqa: N818  # an answer, not a fault
    """The service refuses a call; `error` is all that the host learns."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.name)
        self.error = error


class Service(Protocol):
    """What answers the host's calls."""

    @property
    def phase(self) -> Phase:
        """The phase that decides which methods are open."""
        ...

    async def call(self, method: Method, params: tuple[Value, ...]) -> tuple[Value, ...]:
        """Carry out `method`; the result must match the method's schema.

        Raises:
            Refusal: the call is refused, and nothing has changed.
        """
        ...

    def take_over(self, connection: socket.socket) -> None:
        """Take ownership of a connection that its last call has handed over."""
        ...


@frozen(kw_only=False)
class Answer:
    """The bytes of a reply, and whether the connection is handed over after them."""

    data: bytes
    hands_over: bool = False


async def answer(request: Request, service: Service) -> Answer:
    """Carry out one request and return its reply."""
    method = METHODS.get(request.method)
    if method is None:
        return Answer(encode_error(request.msgid, REPLY_BYTES, RpcError.BADREQ))
    params = params_of(method, request.params)
    if params is None:
        return Answer(encode_error(request.msgid, method.reply_bytes, RpcError.BADREQ))
    if service.phase not in method.phases:
        return Answer(encode_error(request.msgid, method.reply_bytes, RpcError.NOT_NOW))
    try:
        result = await service.call(method, params)
    except Refusal as refusal:
        return Answer(encode_error(request.msgid, method.reply_bytes, refusal.error))
    return Answer(encode_result(request.msgid, method, result), method.hands_over)
