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

MessagePack-RPC on AF_VSOCK port {PORT}: a plain stream of MessagePack objects, without length
prefix. A request is `[0, msgid, method, params]`, its reply `[1, msgid, error, result]`.
Connections from a CID other than {HOST_CID} are closed unread.

* **Limits:** at most {MAX_REQUEST_BYTES} bytes of an unfinished request, {MAX_ITEMS} items in an
  array, depth {MAX_DEPTH}; four connections; ten seconds to finish a request that has begun.
* **Values:** any legal integer width is accepted. Maps, floats, nil and ext values are refused by
  closing the connection.
* A fifth connection is closed at once. A connection whose client has gone counts until its call has
  ended.
* One request at a time on a connection. `msgid`, a u32, is echoed and never compared.
* A result is `[…, pad]`, an error `[code, pad]`. `pad` is a bin of zeros that brings every reply of
  a method to one size. An unknown method is answered in {REPLY_BYTES} bytes.
* The connection is closed if a message breaks these limits, or is not
  `[0, msgid, method, params]` with a str and an array. Everything else gets a reply.
* No reply can hold text: no type in the schema is a string.
* **Types:** `u8` is an unsigned integer of at most 8 bits, `b16` a bin of exactly 16 bytes, `b≤n`
  one of at most n, `[b16] ≤ 3` an array of at most three.
* Only `wait` and `collect` keep a caller waiting; `ms` beyond {MAX_WAIT_MS} counts as
  {MAX_WAIT_MS}.
"""

_CODES = """## Codes

[When a guest ends](operations.md#when-a-guest-ends) says what each code means and where to look.
A container that ran out of memory gives WORKLOAD_EXIT, too: how a pod ends is for its owner alone
to know. A guest that hangs says nothing, because nothing supervises its PID 1.
"""
_ERRORS = {
    RpcError.BADREQ: "no such method, or wrong number, type or range of parameters",
    RpcError.NOT_NOW: "not possible in this phase",
    RpcError.BUSY: "`relay`: the owner plane has no room for a connection now",
    RpcError.DENIED: f"`hello`: another protocol than {PROTOCOL}. `start`, `metrics`, `exit`:"
    " the measured configuration does not allow it. `relay`: there is no owner plane, or none any"
    " more. `collect`: the stream has not reached this cursor",
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
    return "\n".join(("| number | name | meaning |", "|---|---|---|", *rows, ""))


if __name__ == "__main__":
    DOCUMENT.write_text(render())
