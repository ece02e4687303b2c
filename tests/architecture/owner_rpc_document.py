"""Writes docs/owner-rpc.md from the schema: `python -m tests.architecture.owner_rpc_document`."""

from pathlib import Path

from ccinit.agent.planes.call_pace import CALLS_A_SECOND, CALLS_AT_ONCE
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import (
    MAX_CALLS,
    METHODS,
    REPORT_DOMAIN,
    ROLE_URI_PREFIX,
    WINDOW_BYTES,
    ClientRole,
    Field,
    Method,
    Stream,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "owner-rpc.md"

_DOMAIN = REPORT_DOMAIN.decode().replace("\0", "\\0")
_HEAD = f"""# The owner plane

Generated from `ccinit/formats/planes/owner_rpc.py`; do not edit.

MessagePack-RPC over TLS 1.3 with certificates on both sides. It is served on the TCP port
`owner.port` of `ccinit.toml`, or through the host plane's `relay`. Without `[owner]` there is no
owner plane. It opens when the guest has attested, and closes after the last container.

* **The guest** shows the identity that its KBS has released: the resource
  `kbs:///ccinit/POD/tls-identity`, PEM, one private key and then the chain. The certificate has
  the pod's name as DNS name. It is renewed while the guest runs: a new connection may show another
  certificate, an existing one keeps its own.
* **The client** shows a certificate under `owner.client_ca`, for TLS clients, with exactly one URI
  of the form `{ROLE_URI_PREFIX}ROLE` among its alternative names. Roles, each including the ones
  before it: {", ".join(f"`{role}`" for role in ClientRole)}.
* **Key exchange**: the newest that both sides have; with OpenSSL 3.5 on both it is X25519MLKEM768.
  The guest's log and `guest-owner attest` name the one that was used.
* **Connections**: at most eight clients, of which the last may only be an `admin`, and the last but
  one at least `exec`. Beside them, handshakes: two from the pod's own containers and two from
  elsewhere. Ten seconds for the handshake and for a message that has begun; ten minutes without a
  call, a day in all; {MAX_CALLS} calls open at a time. Of calls that come faster than
  {CALLS_A_SECOND} in a second, {CALLS_AT_ONCE} are answered at once, and the others at that pace.

## Messages

A request is `[0, msgid, method, params]`, its reply `[1, msgid, nil, result]` or
`[1, msgid, [code, reason, detail], nil]`. `msgid`, a u32, names one open call. A message for a call
that has ended is ignored. Only the end of its connection can end a call from outside.

A method with streams replies when they have ended. Until then:

* `[2, "data", [msgid, fd, bin]]` carries their bytes; an empty bin ends an fd.
* `[2, "credit", [msgid, n]]` lets the other side send n more bytes. Each side begins with
  {WINDOW_BYTES} bytes of credit for each call, all its fds together, and never has more. Give back
  what you have taken.

The connection is closed if a side breaks the framing, reuses the `msgid` of an open call, sends
without credit or on an fd that the method does not take, or grants beyond {WINDOW_BYTES}.

**Types.** `u8` is an unsigned integer of at most 8 bits, `b32` a bin of exactly 32 bytes, `b≤n` one
of at most n; `text≤n` a str of at most n bytes of UTF-8 without NUL, `[text≤n] ≤ m` an array of at
most m.

**Entries.** The stream of `logs` and `events` is a sequence of
`[number, boottime_us, kind, source, bin]`, with kinds as in the sealed log. Numbers count every
entry of the guest, so a gap means entries that this call does not return, or that were dropped
before they were read. When there is no more room, the source that takes most of it (a container's
standard output, the guest's events, …) loses its oldest entry.

**Evidence.** `attest` reports SHA-512(`{_DOMAIN}` ‖ nonce ‖ SHA-256(certificate)), where the
certificate is the one that the guest shows on this very connection, DER.
"""

_STREAMS: dict[int, str] = {
    Stream.INPUT: "to the guest",
    Stream.OUTPUT: "from the guest",
    Stream.ERROR: "from the guest; empty with `tty`, where all output is OUTPUT",
    Stream.RESIZE: "to the guest, with `tty`: rows and columns in one message, two u16, big-endian",
}
_ERRORS: dict[int, str] = {
    RpcError.BADREQ: "no such method, container or signal, or wrong type or number of parameters",
    RpcError.NOT_NOW: "the pod does not run, or debug is not open",
    RpcError.BUSY: f"{MAX_CALLS} calls are open, another quote is being made, or debug is opening",
    RpcError.DENIED: "the role is too low, the container is not in `[allow].exec`, or this guest"
    " gets no debug",
    RpcError.FAILED: "it was tried and failed; the reason says why",
}


def render() -> str:
    """Return the document."""
    parts = [_HEAD, "## Methods\n"]
    parts += [_method(method) for method in METHODS.values()]
    parts += ["## Fds of `data`\n", _numbers(Stream, _STREAMS)]
    parts += ["## Errors of a call\n", _numbers(RpcError, _ERRORS)]
    return "\n".join(parts)


def _method(method: Method) -> str:
    lines = [
        f"### `{method.name}({_fields(method.params)}) → [{_fields(method.result)}]`\n",
        f"{method.purpose}\n",
        f"* Role: `{method.role}`.",
    ]
    if method.streams:
        names = ", ".join(f"{int(stream)} ({stream.name})" for stream in method.streams)
        lines.append(f"* Streams: {names}.")
    return "\n".join((*lines, ""))


def _fields(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"{field.name} {field.kind}" for field in fields)


def _numbers(kind: type[RpcError | Stream], meanings: dict[int, str]) -> str:
    rows = [f"| {int(member)} | {member.name} | {meanings[member]} |" for member in kind]
    return "\n".join(("| number | name | meaning |", "|---|---|---|", *rows, ""))


if __name__ == "__main__":
    DOCUMENT.write_text(render())
