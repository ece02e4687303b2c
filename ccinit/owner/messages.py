"""Messages between PID 1 and a child `owner`: values of `ccinit.formats.encoding.wire`.

The child checks each call against its method's schema and sends it as the value class of that
method, whose fields are the parameters in their order. PID 1 answers with the end of the call, or
with descriptors through which the child moves bytes; the end then comes through one of them. A copy
ends with its file, and through that descriptor only if it has to end before.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from ccinit.formats.planes.owner_rpc import ClientRole, Method, Value
from ccinit.values import frozen

MAX_END_BYTES: Final = 4096


@frozen
class OwnerRequest:
    """Serve the connection; the guest's TLS identity comes through a pipe.

    Attributes:
        client_ca_pem: the only roots that may vouch for a client.
    """

    client_ca_pem: str


@frozen
class ConnectionEnd:
    """The connection has ended; `why` is empty if the client closed it."""

    why: str


@frozen
class Greeting:
    """Notice: the handshake is done.

    Attributes:
        subject: common name of the client's certificate, for the log.
        group: number of the key exchange in IANA's list of TLS supported groups.
    """

    role: ClientRole
    subject: str
    group: int


class Flow(StrEnum):
    """What a descriptor of an answer is for."""

    INPUT = "input"
    OUTPUT = "output"
    RESIZE = "resize"
    END = "end"


@frozen
class Port:
    """One descriptor of an answer, and the stream number (`fd` of `data`) that it belongs to."""

    flow: Flow
    fd: int


@frozen
class CallEnd:
    """How a call ended.

    Attributes:
        code: 0, or a number of `RpcError`.
        result: encoded by `owner_wire.encode_result`; empty if `code` is not 0.
    """

    code: int = 0
    reason: str = ""
    detail: str = ""
    result: bytes = b""


@frozen
class CallAnswer:
    """The end of a call, or the ports whose descriptors come with it."""

    end: CallEnd | None
    ports: tuple[Port, ...] = ()


@frozen
class Attest:
    """`attest`."""

    nonce: bytes


@frozen
class Logs:
    """`logs`."""

    container: str
    since: int
    follow: bool


@frozen
class Events:
    """`events`."""

    since: int
    follow: bool


@frozen
class Metrics:
    """`metrics`."""


@frozen
class Attach:
    """`attach`."""

    container: str


@frozen
class Exec:
    """`exec`."""

    container: str
    args: tuple[str, ...]
    tty: bool
    rows: int
    columns: int


@frozen
class Copy:
    """`copy`."""

    container: str
    path: str
    into: bool
    mode: int


@frozen
class Signal:
    """`signal`."""

    container: str
    number: int


@frozen
class Rotate:
    """`rotate`."""


@frozen
class OpenDebug:
    """`open_debug`."""


OwnerCall = Attest | Logs | Events | Metrics | Attach | Exec | Copy | Signal | Rotate | OpenDebug
"""What PID 1 is asked: a call of the client's (`ccinit.owner.session.Call`) without its id."""

CALLS: Mapping[str, type[OwnerCall]] = {
    "attest": Attest,
    "logs": Logs,
    "events": Events,
    "metrics": Metrics,
    "attach": Attach,
    "exec": Exec,
    "copy": Copy,
    "signal": Signal,
    "rotate": Rotate,
    "open_debug": OpenDebug,
}


def make_call(method: Method, params: tuple[Value, ...]) -> OwnerCall:
    """Return a call as a value; its parameters have to fit its method's schema."""
    kind: Any = CALLS[method.name]
    names = (field.name for field in method.params)
    call: OwnerCall = kind(**dict(zip(names, params, strict=True)))
    return call
