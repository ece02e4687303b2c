"""How long an owner waits for a guest: by the clock, whatever the guest sends meanwhile."""

import contextlib
import errno
import os
import signal
import socket
import ssl
import struct
import threading
import time

import msgpack  # type: ignore[import-untyped]
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import DeadlineError, PeerError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import Stream
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    MessageReader,
    Refused,
    encode_credit,
    encode_data,
    encode_refusal,
    encode_request,
)
from guest_owner.plane import client as module
from guest_owner.plane.client import CallRefusedError, Endpoint, OwnerClient
from guest_owner.plane.open_call import Streams
from guest_owner.plane.terminal import WindowSize
from tests.fakes.network.tls_server import identity_pem, make_authority, server_context

POD = "shop"
CREDIT = encode_credit(Credit(id=1, count=1))
REPLY = msgpack.packb([1, 1, None, [b"figures"]])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Endpoint, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("client")
    authority = make_authority()
    (folder / "ca.pem").write_text(authority.pem)
    client = authority.issue((), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    (folder / "client.pem").write_bytes(identity_pem(client))
    roots, identity = folder / "ca.pem", folder / "client.pem"
    context = server_context(authority.issue((POD,)))
    return Endpoint(host="", port=0, pod=POD, roots=roots, identity=identity), context


def talk(
    connection: socket.socket, context: ssl.SSLContext, times: int, reply: bytes = REPLY
) -> None:
    """Be a guest that sends credit, so many times, and then its reply."""
    with connection, contextlib.suppress(OSError):
        secured = context.wrap_socket(connection, server_side=True)
        with secured:
            secured.recv(1)  # there is a call now
            for _ in range(times):
                secured.sendall(CREDIT)
                time.sleep(0.02)
            secured.sendall(reply)
            while secured.recv(65536):
                pass


def ask(
    endpoint: tuple[Endpoint, ssl.SSLContext], times: int, seconds: float, reply: bytes = REPLY
) -> object:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(60)
    guest = threading.Thread(target=talk, args=(theirs, endpoint[1], times, reply))
    guest.start()
    try:
        with OwnerClient(ours, endpoint[0]) as client:
            return client.call("metrics", seconds=seconds)
    finally:
        guest.join(60)
        assert not guest.is_alive()


def test_guest_that_says_other_things_is_waited_for_no_longer(
    endpoint: tuple[Endpoint, ssl.SSLContext],
) -> None:
    with pytest.raises(DeadlineError) as caught:
        ask(endpoint, times=1000, seconds=0.5)
    assert (caught.value.reason, caught.value.detail) == ("owner.silent", "no answer within 0.5 s")


def test_guest_that_says_other_things_first_is_heard(
    endpoint: tuple[Endpoint, ssl.SSLContext],
) -> None:
    assert ask(endpoint, times=3, seconds=60) == (b"figures",)


@pytest.mark.parametrize("dribbles", [False, True])
def test_handshake_has_an_end_whatever_comes_meanwhile(
    endpoint: tuple[Endpoint, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, *, dribbles: bool
) -> None:
    """Anybody on the way can send a record that never ends, byte by byte."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    ours, theirs = socket.socketpair()
    is_over = threading.Event()

    def dribble() -> None:
        theirs.sendall(b"\x16\x03\x03\x40\x00")
        while dribbles and not is_over.wait(0.02):
            theirs.sendall(b"\0")

    stranger = threading.Thread(target=dribble)
    stranger.start()
    timer = threading.Timer(5, is_over.set)
    timer.start()
    try:
        with pytest.raises(DeadlineError) as caught:
            OwnerClient(ours, endpoint[0])
        assert not is_over.is_set()
    finally:
        timer.cancel()
        is_over.set()
        stranger.join(60)
        theirs.close()
    assert (caught.value.reason, caught.value.detail) == ("owner.silent", "no handshake in 0.3 s")


def test_guest_that_refuses_is_told_in_its_words_but_for_what_moves_a_terminal(
    endpoint: tuple[Endpoint, ssl.SSLContext],
) -> None:
    said = Refused(code=RpcError.DENIED, reason="owner.\x1b[2Jrole", detail="not\r\x9bso")
    with pytest.raises(CallRefusedError) as caught:
        ask(endpoint, times=1, seconds=60, reply=encode_refusal(1, said))
    assert (caught.value.reason, caught.value.detail) == ("owner.?[2Jrole", "not??so")
    assert caught.value.code is RpcError.DENIED


@pytest.mark.parametrize("has_replied", [True, False])
def test_guest_that_is_gone_before_it_was_heard_out_has_said_what_it_said(
    endpoint: tuple[Endpoint, ssl.SSLContext], *, has_replied: bool
) -> None:
    """Whoever reads slowly, or stands still, sends credit to a guest that has ended."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(60)
    refused = Refused(code=RpcError.FAILED, reason="owner.pod_ended", detail="it did")

    def speak_and_go() -> None:
        with endpoint[1].wrap_socket(theirs, server_side=True) as secured:
            secured.recv(1)  # there is a call now
            secured.sendall(encode_data(Data(id=1, fd=Stream.OUTPUT, content=bytes(40_000))))
            if has_replied:
                secured.sendall(encode_refusal(1, refused))

    guest = threading.Thread(target=speak_and_go)
    guest.start()
    came: list[int] = []

    def take(content: bytes) -> None:
        guest.join(60)
        came.append(len(content))

    streams, params = Streams(sinks={Stream.OUTPUT: take}), ("web", "/x", False, 0)
    with OwnerClient(ours, endpoint[0]) as client, pytest.raises(PeerError) as caught:
        client.stream("copy", *params, streams=streams, seconds=60)
    assert came == [40_000]
    assert caught.value.reason == ("owner.pod_ended" if has_replied else "owner.closed")


@pytest.mark.parametrize("waiting", [b"", b"input"])
def test_nothing_is_sent_behind_the_reply_nor_of_a_source_that_has_nothing(
    endpoint: tuple[Endpoint, ssl.SSLContext], waiting: bytes
) -> None:
    """The guest takes what follows a reply for a broken protocol, and no bytes for the end."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(60)
    has_spoken, heard = threading.Event(), bytearray()
    refusal = encode_refusal(1, Refused(code=RpcError.FAILED, reason="exec.none", detail="no"))

    def refuse() -> None:
        with endpoint[1].wrap_socket(theirs, server_side=True) as secured:
            if waiting:  # together with the reply
                secured.sendall(refusal)
            has_spoken.set()
            while data := secured.recv(65536):
                heard.extend(data)
                if not waiting:
                    secured.sendall(CREDIT)
                    time.sleep(0.2)  # for what should not come
                    secured.sendall(refusal)

    guest = threading.Thread(target=refuse)
    guest.start()
    source, far = os.pipe()
    os.set_blocking(source, False)
    os.write(far, waiting)
    params = ("web", ("x",), False, 0, 0)
    with OwnerClient(ours, endpoint[0]) as client:
        assert has_spoken.wait(60)
        with pytest.raises(CallRefusedError):
            client.stream("exec", *params, streams=Streams(source=source), seconds=60)
    guest.join(60)
    os.close(source)
    os.close(far)
    assert heard == encode_request(1, "exec", params)


def test_new_size_is_told_while_nobody_types_or_writes(
    endpoint: tuple[Endpoint, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of a window changes by a signal, after which Python goes on to wait."""
    window, told = WindowSize(24, 80), list[bytes]()

    def serve(connection: socket.socket) -> None:
        reader = MessageReader(of_guest=True)
        with connection, endpoint[1].wrap_socket(connection, server_side=True) as secured:
            list(reader.feed(secured.recv(65536)))
            time.sleep(0.2)  # until the client waits
            os.kill(os.getpid(), signal.SIGWINCH)
            while data := secured.recv(65536):
                said = [one for one in reader.feed(data) if isinstance(one, Data)]
                sizes = [one.content for one in said if one.fd == Stream.RESIZE]
                told.extend(sizes)
                if sizes:
                    secured.sendall(msgpack.packb([1, 1, None, [3, 0]]))

    ours, theirs = socket.socketpair()
    guest = threading.Thread(target=serve, args=(theirs,))
    handler = signal.signal(signal.SIGWINCH, window.note)
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("COLUMNS", "120")
    guest.start()
    try:
        with OwnerClient(ours, endpoint[0]) as client:
            params = ("web", ("/bin/sh",), True, 24, 80)
            streams = Streams(events=window.take)
            assert client.stream("exec", *params, streams=streams, seconds=20) == (3, 0)
    finally:
        signal.signal(signal.SIGWINCH, handler)
        guest.join(60)
    assert told == [struct.pack(">HH", 50, 120)]


class Watched(socket.socket):
    """A connection to a guest whose machine is gone, once it is; the kernel finds that out."""

    is_gone = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.is_gone:
            assert self.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return super().recv(size, flags)


def test_guest_that_is_gone_without_a_word_is_looked_for_and_told_as_gone(
    endpoint: tuple[Endpoint, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else ends `logs --follow` then: it waits for as long as a pod may be quiet."""
    ours, theirs = socket.socketpair()
    watched = Watched(fileno=ours.detach())
    for end in (watched, theirs):
        end.settimeout(60)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: watched)
    guest = threading.Thread(target=talk, args=(theirs, endpoint[1], 1))
    guest.start()
    with OwnerClient.connect(endpoint[0]) as client:
        assert client.call("metrics") == (b"figures",)
        watched.is_gone = True
        with pytest.raises(PeerError) as caught:
            client._receive_ciphertext()
    guest.join(60)
    assert caught.value.reason == "owner.closed"
    assert "Connection timed out" in caught.value.detail
