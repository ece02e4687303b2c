"""Writes docs/host-rpc.md from the schema: `python -m tests.architecture.host_rpc_document`."""

from pathlib import Path

from ccinit.formats.planes.host_rpc import (
    HOST_CID,
    MAX_WAIT_MS,
    METHODS,
    PORT,
    PROTOCOL,
    REPLY_BYTES,
    RESERVED_CODES,
    Code,
    Field,
    Method,
    Phase,
    RpcError,
)
from ccinit.formats.planes.msgpack_rpc import MAX_DEPTH, MAX_ITEMS, MAX_REQUEST_BYTES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "host-rpc.md"

_HEAD = f"""# The host plane

Generated from `ccinit/formats/planes/host_rpc.py`; do not edit.

MessagePack-RPC (`[0, msgid, method, params]`, answered by `[1, msgid, error, result]`) on AF_VSOCK
port {PORT}: a plain stream of MessagePack objects, without length prefix. Peers other than CID
{HOST_CID} are closed unread.

* At most {MAX_REQUEST_BYTES} bytes of an unfinished request, {MAX_ITEMS} items in an array, depth
  {MAX_DEPTH}; four connections; ten seconds to finish a request that has begun. Any legal integer
  width is accepted; maps, floats, nil and ext values are refused by closing the connection.
* A fifth connection is closed at once; one whose client has gone counts until its call has ended.
* One request at a time on a connection. `msgid`, a u32, is echoed and never compared.
* A result is `[…, pad]`, an error `[code, pad]`; `pad` is a bin of zeros that brings every reply of
  a method to one size. An unknown method is answered in {REPLY_BYTES} bytes.
* What breaks these limits, or is no `[0, msgid, method, params]` with a str and an array, is
  answered by closing the connection; everything else has a reply.
* No reply can hold text: no type in the schema is a string.
* `u8` is an unsigned integer of at most 8 bits, `b16` a bin of exactly 16 bytes, `b≤n` one of at
  most n, `[b16] ≤ 3` an array of at most three. Only `wait` and `collect` keep a caller waiting;
  `ms` beyond {MAX_WAIT_MS} counts as {MAX_WAIT_MS}.
"""

_CODES = """## Codes

[When a guest ends](operations.md#when-a-guest-ends) says what each code means and where to look.
A container that ran out of memory gives WORKLOAD_EXIT, too: how a pod ends is for its owner alone
to know. A guest that hangs says nothing, because nothing supervises its PID 1.
"""
_ERRORS = {
    RpcError.BADREQ: "no such method, or parameters of another number, type or range",
    RpcError.NOT_NOW: "not in this phase",
    RpcError.BUSY: "`relay`: the owner plane has no place now",
    RpcError.DENIED: f"`hello`: another protocol than {PROTOCOL}. `start`, `metrics`, `exit`: not"
    " in the measured configuration. `relay`: there is no owner plane, or none any more. `collect`:"
    " a place that the stream has not reached",
    RpcError.FAILED: "`exit`: the pod did not end by itself",
}
_RESERVED = f"Reserved: {', '.join(f'{one:#04x}' for one in sorted(RESERVED_CODES))}.\n"


def render() -> str:
    """Return the document."""
    parts = [_HEAD, "## Methods\n"]
    parts += [_method(method) for method in METHODS.values()]
    parts += ["## Phases\n", _numbers(Phase), _CODES, _numbers(Code), _RESERVED]
    parts += ["## Errors of a call\n", _errors()]
    return "\n".join(parts)


def _method(method: Method) -> str:
    phases = ", ".join(phase.name for phase in sorted(method.phases))
    return (
        f"### `{method.name}({_fields(method.params)}) → [{_fields(method.result)}]`\n\n"
        f"{method.purpose}\n\n"
        f"* Reply: {method.reply_bytes} bytes. Carried out in {phases}; elsewhere `NOT_NOW`.\n"
        f"* What the host learns: {method.leak}.\n"
    )


def _fields(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"{field.name} {field.kind}" for field in fields)


def _numbers(kind: type[Phase | Code]) -> str:
    rows = [f"| {int(member):#04x} | {member.name} |" for member in kind]
    return "\n".join(("| number | name |", "|---|---|", *rows, ""))


def _errors() -> str:
    rows = [f"| {int(error):#04x} | {error.name} | {_ERRORS[error]} |" for error in RpcError]
    return "\n".join(("| number | name | |", "|---|---|---|", *rows, ""))


if __name__ == "__main__":
    DOCUMENT.write_text(render())
