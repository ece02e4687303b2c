"""One connection to a guest's owner plane, and one call at a time on it.

The path to the guest does not matter: a TCP port of the pod, or one that the host's `relay` listens
on. TLS 1.3 ends in the guest, which has to show a certificate for the pod's name under the root
that the owner gives. Left to others: the streams of a call (`guest_owner.plane.open_call`), what
calls mean (`ccinit.formats.planes.owner_rpc`).
"""

import contextlib
import errno
import select
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ccinit.errors import CcinitError, ConfigError, DeadlineError, PeerError
from ccinit.formats.planes.owner_rpc import METHODS, Stream, Value
from ccinit.formats.planes.owner_wire import (
    Data,
    MessageReader,
    Refused,
    encode_data,
    encode_request,
    result_of,
)
from ccinit.formats.planes.tls_hello import selected_group
from guest_owner.certificates import describe_unusable_pair
from guest_owner.plane.open_call import OpenCall, Streams
from guest_owner.terminal_text import printable
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped
from measured_boot.command_line.tcp_address import join_address

CONNECT_SECONDS: Final = 90.0  # a guest under emulation starts a process for each connection
ANSWER_SECONDS: Final = 300.0
"""Twice what a guest allows for evidence, a cloud's endorsement of it, and others' before it."""
_EVENT_SECONDS: Final = 0.2  # until an event is noticed while nothing else happens
_CHUNK_BYTES: Final = 16 * 1024


class CallRefusedError(PeerError):
    """The guest did not carry out a call; the reason is its own.

    Attributes:
        code: of the closed list that both planes share.
    """

    def __init__(self, refused: Refused) -> None:
        super().__init__(printable(refused.reason), printable(refused.detail))
        self.code = refused.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a guest is and who it must be.

    Attributes:
        pod: the name that its certificate must bear.
        roots: PEM file with the only roots that may vouch for it.
        identity: PEM file with the client's key and certificate.
    """

    host: str
    port: int
    pod: str
    roots: Path
    identity: Path


class OwnerClient:
    """An authenticated connection; a context manager.

    Attributes:
        certificate_der: the guest's own.
        group: IANA number of the key exchange.
    """

    def __init__(
        self, connection: socket.socket, endpoint: Endpoint, context: ssl.SSLContext | None = None
    ) -> None:
        """Shake hands over `connection`, which is ours from now on.

        Args:
            connection: to the guest.
            endpoint: who the guest has to be, and who asks.
            context: made of `endpoint` already, if it was.

        Raises:
            PeerError: `owner.certificate`, `owner.tls`, `owner.closed`.
            DeadlineError: `owner.silent`.
        """
        self._socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._reader = MessageReader(of_guest=False)
        self._msgid = 0
        try:
            self._tls = (context or _context(endpoint)).wrap_bio(
                self._incoming, self._outgoing, server_hostname=endpoint.pod
            )
            self.group = selected_group(self._do_handshake())
        except BaseException:
            connection.close()
            raise
        self.certificate_der = self._tls.getpeercert(binary_form=True) or b""

    @classmethod
    def connect(cls, endpoint: Endpoint) -> Self:
        """Connect by TCP and shake hands.

        Raises:
            ConfigError: `owner.roots`, `owner.identity`.
            PeerError: `owner.unreachable`, and as above.
        """
        context = _context(endpoint)  # report a local mistake before connecting
        try:
            connection = socket.create_connection(
                (endpoint.host, endpoint.port), timeout=CONNECT_SECONDS
            )
            # A machine that lost power falls silent, and whoever follows a log would wait forever.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            where = join_address(endpoint.host, endpoint.port)
            raise PeerError("owner.unreachable", f"{where}: {_why(error)}") from error
        return cls(connection, endpoint, context)

    def call(self, name: str, *params: Value, seconds: float = ANSWER_SECONDS) -> tuple[Value, ...]:
        """Make a plain call and return its result, within a deadline.

        Raises:
            CallRefusedError: with the guest's reason.
            DeadlineError: `owner.silent`.
            PeerError, FormatError: the guest broke the protocol.
        """
        return self.stream(name, *params, streams=Streams(), seconds=seconds)

    def stream(
        self, name: str, *params: Value, streams: Streams, seconds: float | None = None
    ) -> tuple[Value, ...]:
        """Make a call and move its streams until it ends; return its result.

        Args:
            name: of the method.
            params: its parameters.
            streams: what is at their other ends.
            seconds: for the whole call, whatever arrives meanwhile; None for no limit.

        Raises:
            ConfigError: `owner.params`, what no request can hold: text that is not UTF-8, a number
                of more than 64 bits.
            CcinitError: as `call`.
        """
        method = METHODS[name]
        self._msgid += 1
        try:
            request = encode_request(self._msgid, name, params)
        except (UnicodeError, OverflowError) as error:
            raise ConfigError(
                "owner.params", f"{name} cannot be asked like this: {error}"
            ) from error
        self._send(request)
        if Stream.INPUT in method.streams and streams.source is None:
            self._send(encode_data(Data(id=self._msgid, fd=Stream.INPUT, content=b"")))
        call = OpenCall(self._msgid, method, streams)
        end = None if seconds is None else time.monotonic() + seconds
        while (outcome := call.outcome) is None:
            if not self._turn(call, end):
                raise DeadlineError("owner.silent", f"no answer within {seconds:g} s")
        if isinstance(outcome, Refused):
            raise CallRefusedError(outcome)
        return result_of(method, outcome)

    def close(self) -> None:
        """End TLS with a close_notify, and close the connection."""
        try:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # without waiting for the guest's answer
            with contextlib.suppress(PeerError):
                self._flush()
        finally:
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turn(self, call: OpenCall, end: float | None) -> bool:
        """Wait once and move what has arrived; return False if time ran out."""
        self._send(call.read_events())
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return False
        # A signal's handler may make an event, and Python goes on to wait after it (PEP 475).
        wait = _EVENT_SECONDS if left is None else min(left, _EVENT_SECONDS)
        sources = call.sources()
        ready, _, _ = select.select((self._socket.fileno(), *sources), (), (), wait)
        if self._socket.fileno() in ready:
            self._receive(call)
        for source in sources:
            if call.outcome is None and source in ready:
                self._send(call.read_source(source))
        return True

    def _receive(self, call: OpenCall) -> None:
        for data in self._read():
            for message in self._reader.feed(data):
                self._send(call.take(message))

    def _read(self) -> list[bytes]:
        """Wait for ciphertext and return the plaintext in it."""
        self._incoming.write(self._receive_ciphertext())
        found = []
        try:
            while data := self._tls.read(_CHUNK_BYTES):
                found.append(data)
        except ssl.SSLWantReadError:
            return found
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            raise _tls_error(error) from error
        if not found:
            raise PeerError("owner.closed", "the guest ended the connection")
        return found

    def _receive_ciphertext(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:  # ours, not the kernel's
                silent = f"nothing for {CONNECT_SECONDS:g} s"
                raise DeadlineError("owner.silent", silent) from error
            raise PeerError("owner.closed", f"the connection broke: {_why(error)}") from error
        if not data:
            raise PeerError("owner.closed", "the connection was cut off")
        return data

    def _send(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        try:
            self._socket.sendall(self._outgoing.read())
        except (BrokenPipeError, ConnectionResetError):
            return  # the guest is gone: what it said before is still to be read, and then its end
        except OSError as error:
            raise PeerError("owner.closed", f"the connection broke: {_why(error)}") from error

    def _do_handshake(self) -> bytes:
        """Shake hands; return what the guest sent first.

        As a whole within a time: on the way, a record can be made to come byte by byte for ever.
        """
        flight, end = b"", time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                left = end - time.monotonic()
                if left <= 0 or not select.select((self._socket.fileno(),), (), (), left)[0]:
                    silent = f"no handshake in {CONNECT_SECONDS:g} s"
                    raise DeadlineError("owner.silent", silent) from None
                data = self._receive_ciphertext()
                flight += data
                self._incoming.write(data)
            except ssl.SSLError as error:
                with contextlib.suppress(PeerError):
                    self._flush()  # tells the peer what is wrong, if it is still there
                raise _tls_error(error) from error
            else:
                self._flush()
                return flight


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    try:
        context.load_verify_locations(endpoint.roots)
    except OSError as error:
        is_empty = isinstance(error, ssl.SSLError)
        why = "no certificate in PEM, or a damaged one" if is_empty else _why(error)
        detail = f"{endpoint.roots}, the authority that guests are known by: {why}"
        raise ConfigError("owner.roots", detail) from error
    try:
        context.load_cert_chain(endpoint.identity)
    except OSError as error:
        detail = f"{endpoint.identity}, your key and certificate: {_unusable(endpoint, error)}"
        raise ConfigError("owner.identity", detail) from error
    return context


def _unusable(endpoint: Endpoint, error: OSError) -> str:
    with contextlib.suppress(CcinitError, OSError):
        pem = read_capped(endpoint.identity, MAX_KEY_BYTES)
        if isinstance(error, ssl.SSLError):
            return describe_unusable_pair(error, pem, pem)
        if error.errno == errno.EINVAL and b"ENCRYPTED" in pem:
            return "the key has a passphrase, and none was given"
    return _why(error)


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _tls_error(error: ssl.SSLError) -> PeerError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return PeerError("owner.certificate", f"the guest's certificate: {error.verify_message}")
    return PeerError("owner.tls", f"TLS failed: {error.reason or error}")
