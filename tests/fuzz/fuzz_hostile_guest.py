"""Invariant: whatever a guest says behind its TLS handshake, a command of `guest-owner` ends as its
first reply asks, or says what is wrong by a documented reason; it holds little of that at a time,
prints nothing that a terminal obeys, and writes no file but `cp`'s target, whole or not at all.

Run as `python -m tests.fuzz.fuzz_hostile_guest [SECONDS [SEED]]`.
"""

import contextlib
import io
import random
import re
import socket
import ssl
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import msgpack  # type: ignore[import-untyped]
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.formats.planes.owner_rpc import METHODS, WINDOW_BYTES, Stream
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    LogLine,
    encode_credit,
    encode_data,
    encode_log_line,
)
from ccinit.formats.sealed_log import Kind
from guest_owner.cli import build_parser
from guest_owner.plane.client import Endpoint, OwnerClient
from measured_boot.command_line.errors import run_command
from tests.fakes.network.tls_server import identity_pem, make_authority, server_context
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

PARSER = build_parser()
POD = "shop"
OLD, SENT = b"what was there", b"input " * 5000
MAX_HELD_BYTES = 5 << 20
REASONS = {"owner.message", "owner.result", "owner.entry", "owner.closed", "owner.tls"}
REASONS |= {"metrics.line", "owner.copy_size"}
SAYS = re.compile(r"\[([a-z_.-]+)\]\n\Z")
REFUSAL = ("owner.refused", "not \x1b[2J now")
LINE = LogLine(sequence=1, boottime_us=2, kind=Kind.STDOUT, source="web", data=b"\x1b[2Jhi\n")
COMMANDS = (
    *(("metrics",), ("logs",), ("logs", "--json"), ("events", "-f"), ("attach", "web")),
    *(("exec", "web", "/x"), ("exec", "-i", "web", "/x"), ("signal", "web", "TERM"), ("rotate",)),
    *(("cp", "web:/x", "TARGET"), ("cp", "SOURCE", "web:/x"), ("attest", "--evidence-only")),
)
RESULTS: dict[str, tuple[object, ...]] = {
    "attest": ("snp", b"{}"),
    "metrics": (b"ccinit_uptime_seconds 1\n",),
    "logs": (2,),
    "events": (2,),
    "exec": (3, 0),
    "copy": (5,),
    "rotate": (1,),
}
NOISE = (
    *(b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x9f" * 600, b"\xc0", b"\x93\x02"),
    *(b"\x94\x01\x01", b"\xc4\x00", b"\xd9\xff", b"\x81\xc0\xc0", b"\xcb" + bytes(8)),
)


@dataclass(slots=True)
class Script:
    """What a guest sends, and what follows from it; `is_known` is false once bytes were changed.

    Attributes:
        end: the result or reason of the first message that ends the call.
        heard: for each fd the bytes before that.
        has_more: whether something stands behind it.
    """

    method: str
    sent: bytearray = field(default_factory=bytearray)
    end: tuple[object, ...] | str | None = None
    heard: dict[int, bytes] = field(default_factory=dict)
    has_more: bool = False
    is_known: bool = True

    def say(self, message: bytes, end: tuple[object, ...] | str | None = None) -> None:
        self.sent += message
        self.has_more = self.has_more or self.end is not None
        self.end = end if self.end is None else self.end


def write_script(source: random.Random, method: str) -> Script:
    """Return what a guest says to a call, mostly well-formed, and mostly with a reply."""
    script = Script(method)
    for _ in range(source.choice((0, 0, 1, 2, 4))):
        add_notice(source, script)
    for _ in range(source.choice((0, 1, 1, 1, 1, 2))):
        add_reply(source, script)
    if source.randrange(6) == 0:
        add_notice(source, script)
    if source.randrange(3) == 0:
        script.sent[:] = mutate_text(source, bytes(script.sent), NOISE)
        script.is_known = False
    if source.randrange(30) == 0:
        script.sent[:] = b"\x9f" + 12 * (b"\xc6\x00\x07\xff\xff" + bytes(0x7FFFF))  # unfinished
        script.is_known = False
    return script


def add_notice(source: random.Random, script: Script) -> None:
    """Add data or credit; of a call without streams mostly credit, which alone is right there."""
    streams = METHODS[script.method].streams
    call = source.choice((1,) * 30 + (0, 2))
    if source.randrange(4) < (1 if streams else 3):
        count = source.choice((0, 1, WINDOW_BYTES, (1 << 32) - 1))
        wrong = None if call == 1 else "owner.message"
        script.say(encode_credit(Credit(id=call, count=count)), wrong)
        return
    fd = source.choice((*streams * 8, 1, 9))
    content = source.choice((b"", source.randbytes(50), bytes(WINDOW_BYTES)))
    if script.method in {"logs", "events"}:
        content = b"" if fd != Stream.OUTPUT else encode_log_line(LINE) * source.randrange(3)
    is_right = call == 1 and fd in streams
    if is_right and script.end is None:
        script.heard[fd] = script.heard.get(fd, b"") + content
    message = encode_data(Data(id=call, fd=fd, content=content))
    script.say(message, None if is_right else "owner.message")


def add_reply(source: random.Random, script: Script) -> None:
    result = RESULTS.get(script.method, ())
    match source.randrange(8):
        case 0:
            wrong = source.choice(((*result, 1), ("x",), (-1,), (True, b""), (1 << 63, 0)))
            script.say(msgpack.packb([1, 1, None, wrong]), "owner.result")
        case 1:
            script.say(msgpack.packb([1, 1, [5, *REFUSAL], None]), REFUSAL[0])
        case 2:
            script.say(msgpack.packb([1, 2, None, result]), "owner.message")
        case 3 if script.method == "exec":
            result = (source.choice((0, 1, 255)), source.choice((0, 9, 127, 128, 255)))
            is_signal = result[1] < 128
            script.say(msgpack.packb([1, 1, None, result]), result if is_signal else "owner.result")
        case _:
            script.say(msgpack.packb([1, 1, None, result]), result)


class Pki:
    """Certificates of both sides, and the folder that they and a command's files are in."""

    def __init__(self, folder: Path) -> None:
        authority = make_authority()
        self.folder = folder
        self.context = server_context(authority.issue((POD,)))
        (folder / "ca.pem").write_text(authority.pem)
        client = authority.issue((), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        (folder / "client.pem").write_bytes(identity_pem(client))
        self.endpoint = Endpoint(
            host="", port=0, pod=POD, roots=folder / "ca.pem", identity=folder / "client.pem"
        )


class Guest:
    """Shakes hands, says its script in pieces, and ends the connection in one way or another."""

    def __init__(self, source: random.Random, pki: Pki, script: Script) -> None:
        self._pieces = tuple(cut(source, bytes(script.sent)))
        self._is_orderly = source.random() < 0.5
        self._pki = pki
        self._ours, self.theirs = socket.socketpair()
        for end in (self._ours, self.theirs):
            end.settimeout(60)
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        with self._ours, contextlib.suppress(OSError):
            secured = self._pki.context.wrap_socket(self._ours, server_side=True)
            with secured:
                secured.recv(1)  # there is a call now
                for piece in self._pieces:
                    secured.sendall(piece)
                if self._is_orderly:
                    secured.settimeout(0)
                    with contextlib.suppress(ssl.SSLError):
                        secured.unwrap()  # the owner's own end is not waited for
                    secured.settimeout(60)
                secured.shutdown(socket.SHUT_WR)
                while secured.recv(65536):  # ciphertext, from here on
                    pass

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def cut(source: random.Random, data: bytes) -> Iterator[bytes]:
    """Cut bytes into pieces, or leave them whole."""
    while data:
        size = source.choice((len(data), len(data), source.randrange(1, len(data) + 1)))
        yield data[:size]
        data = data[size:]


def check(source: random.Random, pki: Pki) -> bool:
    """Run a command against a guest; return whether it did what it should."""
    words = source.choice(COMMANDS)
    method = {"cp": "copy"}.get(words[0], words[0])
    script = write_script(source, method)
    target, sent = pki.folder / "target", pki.folder / "source"
    target.write_bytes(OLD)
    sent.write_bytes(SENT)
    before = sorted(pki.folder.iterdir())
    places = {"TARGET": str(target), "SOURCE": str(sent)}
    command = PARSER.parse_args([places.get(word, word) for word in words])
    guest = Guest(source, pki, script)
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(mock.patch("sys.stdin", stack.enter_context(sent.open())))
        for module in ("exec", "plane"):
            place = f"guest_owner.commands.{module}.connect"
            stack.enter_context(
                mock.patch(place, side_effect=lambda _: OwnerClient(guest.theirs, pki.endpoint))
            )
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        status = run_command("guest-owner", lambda: command.func(command))
        assert tracemalloc.get_traced_memory()[1] - held < MAX_HELD_BYTES
    guest.join()
    printed, said = (text.buffer.getvalue() for text in (out, err))
    assert sorted(pki.folder.iterdir()) == before
    assert sent.read_bytes() == SENT
    text = said.decode(errors="replace")
    if method not in {"exec", "attach"}:  # whose own errors go to a file as they are
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    found = SAYS.search(text)
    reason = found[1] if status and found else None
    check_outcome(script, status, reason)
    copied = target.read_bytes()
    if words[-1] == "TARGET" and not status:
        assert not script.is_known or copied == script.heard.get(Stream.OUTPUT, b"")
    else:
        assert copied == OLD
    if method in {"logs", "events"}:
        assert all(letter.isprintable() or letter == "\n" for letter in printed.decode())
    elif method in {"exec", "attach"} and script.is_known and reason is None:
        assert printed == script.heard.get(Stream.OUTPUT, b"")
    return reason is None


def check_outcome(script: Script, status: int, reason: str | None) -> None:
    """Check how a command ended against what the guest has said."""
    assert 0 <= status < 256
    assert reason is None or reason in REASONS | {REFUSAL[0]} or not script.is_known, reason
    if not script.is_known:
        return
    if script.has_more and reason == "owner.message":
        return  # what is behind the end was in the same piece
    if isinstance(script.end, tuple):
        assert reason is None, reason
        code, number = script.end if script.method == "exec" else (0, 0)
        assert status == (128 + int(str(number)) if number else code)
    else:
        assert reason == (script.end or "owner.closed"), (reason, script.end)


def main(seconds: float, seed: int) -> int:
    """Run commands for a while; return how many."""
    trials = Trials(seconds, seed)
    done = 0
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            pki = Pki(Path(folder))
            for source in trials:
                done += check(source, pki)
    finally:
        tracemalloc.stop()
    trials.require(done, one_in=10)
    return trials.count


if __name__ == "__main__":
    run(main)
