"""Writes docs/host-rpc.md from the schema: `python -m tests.architecture.host_rpc_document`."""

from pathlib import Path

from ccinit.formats.planes.host_rpc import (
    HOST_CID,
    METHODS,
    PORT,
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
* One request at a time on a connection. `msgid` is echoed and never compared.
* A result is `[…, pad]`, an error `[code, pad]`; `pad` is a bin that brings every reply of a method
  to one size.
* No reply can hold text: no type in the schema is a string.
"""

_CODES = """## Codes

What each means and where to look: [Running it](operations.md#when-a-guest-ends). A container that
lacked memory is a WORKLOAD_EXIT: how a pod ends is its owner's to know. A guest that hangs says
nothing, since no one stands above its PID 1.
"""
_RESERVED = f"Reserved: {', '.join(f'{one:#04x}' for one in sorted(RESERVED_CODES))}.\n"


def render() -> str:
    """Return the document."""
    parts = [_HEAD, "## Methods\n"]
    parts += [_method(method) for method in METHODS.values()]
    parts += ["## Phases\n", _numbers(Phase), _CODES, _numbers(Code), _RESERVED]
    parts += ["## Errors of a call\n", _numbers(RpcError)]
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


def _numbers(kind: type[Phase | Code | RpcError]) -> str:
    rows = [f"| {int(member):#04x} | {member.name} |" for member in kind]
    return "\n".join(("| number | name |", "|---|---|", *rows, ""))


if __name__ == "__main__":
    DOCUMENT.write_text(render())
