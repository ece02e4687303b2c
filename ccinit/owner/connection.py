"""One client's connection from handshake to end: the child's only loop.

This module waits for socket and streams at once, keeps deadlines, and decides in which order things
happen. Left to others are TLS (`ccinit.net.tls_server`), credits (`session`), descriptors
(`ports`), and what calls do (PID 1, behind `Carry`).

The client is authenticated but may still be hostile, or its terminal may be stopped. It gets ten
seconds for the handshake, ten to finish a message that it has begun, a minute to take what it was
sent, and ten minutes without any call. While it does not take what it was sent, nothing is read
from it, and nothing that was read is carried out.
"""

import os
import select
from collections.abc import Callable, Iterator
from contextlib import suppress

from ccinit.errors import DeadlineError, PeerError, errno_text
from ccinit.formats.planes.owner_rpc import ROLE_URI_PREFIX, ClientRole
from ccinit.formats.planes.owner_wire import Data
from ccinit.kernel.clock import boottime
from ccinit.net.tls_server import ServerConnection
from ccinit.owner.messages import CallAnswer, Greeting
from ccinit.owner.ports import CHUNK_BYTES, OpenCall
from ccinit.owner.session import Call, Session
from ccinit.values import frozen


@frozen
class ConnectionLimits:
    """Limits of one client."""

    handshake_seconds: float = 10.0
    message_seconds: float = 10.0
    sending_seconds: float = 60.0
    idle_seconds: float = 600.0
    pending_bytes: int = 256 * 1024


Carry = Callable[[Call, Callable[[int], None]], tuple[CallAnswer, tuple[int, ...]]]
"""Has PID 1 carry out a call; returns its answer and the descriptors that came with it.

The second argument waits until a descriptor is readable: the one that the answer comes through.
"""


class Connection:
    """The loop around one socket."""

    def __init__(
        self, descriptor: int, tls: ServerConnection, carry: Carry, limits: ConnectionLimits
    ) -> None:
        self._socket = descriptor
        self._tls = tls
        self._carry = carry
        self._limits = limits
        self._session = Session()
        self._events: Iterator[Call | Data] = iter(())  # of what has been read
        self._calls: dict[int, OpenCall] = {}
        self._unsent = b""
        self._called_at = self._sent_at = self._begun_at = boottime()
        self._begun: int | None = None  # the message that `_begun_at` is about
        os.set_blocking(descriptor, False)

    def do_handshake(self) -> Greeting:
        """Authenticate the client.

        Raises:
            PeerError: `net.…`; `owner.role`, its certificate names no role, or several.
            DeadlineError: `owner.handshake`.
        """
        end = boottime() + self._limits.handshake_seconds
        try:
            while not self._tls.do_handshake():
                self._send()
                self._wait_until(end)
        except BaseException:
            self._send_last_bytes()  # with the alert
            raise
        self._send()
        name, uris = self._tls.peer_names()
        return Greeting(role=_role(uris), subject=name, group=self._tls.group)

    def serve(self) -> None:
        """Serve until the client closes.

        Raises:
            PeerError, FormatError: it broke the protocol.
            DeadlineError: `owner.message`, `owner.sending`, `owner.idle`.
        """
        try:
            while self._carry_out():
                self._turn()
        finally:
            for call in self._calls.values():
                call.close()
            self._send_last_bytes()  # the answers first: TLS takes none once it is closed
            self._tls.close()
            self._send_last_bytes()

    def _turn(self) -> None:
        """Wait for something, and do what it allows."""
        ready = self._poll()
        if ready.get(self._socket, 0) & ~select.POLLOUT:  # which alone is no reason to read
            self._receive()
        self._move(ready, only_release=self._is_full())  # else the outputs were not polled
        self._send()
        self._check_deadlines()

    def _move(self, ready: dict[int, int], *, only_release: bool) -> None:
        for call in tuple(self._calls.values()):
            (call.release if only_release else call.move)(ready, self._session)
            if call.is_over:
                self._send()  # before `close`, behind which PID 1 may end this child
                call.close()
                del self._calls[call.id]

    def _poll(self) -> dict[int, int]:
        poller = select.poll()
        interest = 0 if self._is_full() else select.POLLIN
        poller.register(self._socket, interest | (select.POLLOUT if self._unsent else 0))
        is_full = self._is_full()
        for call in self._calls.values():
            wanted = call.urgent_interests() if is_full else call.interests(self._session)
            for descriptor, events in wanted.items():
                poller.register(descriptor, events)
        return dict(poller.poll(self._poll_seconds() * 1000))

    def _wait_for(self, descriptor: int) -> None:
        """Wait until `descriptor` is readable, and close files that PID 1 wants closed meanwhile.

        A call can take minutes, and `open_debug` itself waits until they are closed.
        """
        ready: dict[int, int] = {}
        while descriptor not in ready:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            for call in self._calls.values():
                for end, events in call.urgent_interests().items():
                    poller.register(end, events)
            ready = dict(poller.poll())
            self._move(ready, only_release=True)
            self._send()

    def _is_full(self) -> bool:
        return len(self._unsent) > self._limits.pending_bytes

    def _carry_out(self) -> bool:
        """Carry out what has arrived, until answers wait; return whether the client is there."""
        while not self._is_full():
            event = next(self._events, None)
            if event is None:
                data = self._tls.read()
                if data is None:
                    break
                if not data:
                    return False
                self._events = self._session.feed(data)
                continue
            self._called_at = boottime()
            match event:
                case Call():
                    self._begin(event)
                case Data():
                    self._calls[event.id].take(event, self._session)
            # A record may hold hundreds of calls: none is carried out before its answer has room.
            self._send()
        if self._session.unfinished != self._begun:
            self._begun, self._begun_at = self._session.unfinished, boottime()
        self._send()
        return True

    def _begin(self, call: Call) -> None:
        answer, descriptors = self._carry(call, self._wait_for)
        if answer.end is None:
            self._calls[call.id] = OpenCall(call, answer.ports, descriptors)
        else:
            self._session.end(call.id, answer.end)

    def _receive(self) -> None:
        try:
            data = os.read(self._socket, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise PeerError("net.closed", errno_text(error.errno)) from error
        self._tls.feed(data)

    def _send(self) -> None:
        """Encrypt what the session has to say, and send what the socket takes."""
        if self._session.output:
            self._tls.write(bytes(self._session.output))
            self._session.output.clear()
        if not self._unsent:
            self._sent_at = boottime()
        self._unsent += self._tls.take()
        try:
            while self._unsent:
                count = os.write(self._socket, self._unsent)
                self._unsent = self._unsent[count:]
                self._sent_at = boottime()
        except BlockingIOError:
            return
        except OSError as error:
            raise PeerError("net.closed", errno_text(error.errno)) from error

    def _send_last_bytes(self) -> None:
        """Send the last bytes if the client still takes them; why it ends is known already."""
        with suppress(PeerError):
            self._send()

    def _wait_until(self, end: float) -> None:
        left = end - boottime()
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if left <= 0 or not poller.poll(left * 1000):
            raise DeadlineError("owner.handshake", f"{self._limits.handshake_seconds:g} s")
        self._receive()

    def _poll_seconds(self) -> float:
        """Seconds until a deadline may be over, at least a little."""
        waits = [self._limits.message_seconds]
        if any(call.is_ending for call in self._calls.values()):
            waits.append(0.1)
        return min(waits)

    def _check_deadlines(self) -> None:
        now, limits = boottime(), self._limits
        if self._is_full():
            self._begun_at = now  # not the client's delay: we have stopped reading
        if self._begun is not None and now - self._begun_at > limits.message_seconds:
            raise DeadlineError("owner.message", f"{limits.message_seconds:g} s")
        if self._unsent and now - self._sent_at > limits.sending_seconds:
            raise DeadlineError("owner.sending", f"{limits.sending_seconds:g} s")
        if not self._session.is_idle:
            self._called_at = now
        if now - self._called_at > limits.idle_seconds:
            raise DeadlineError("owner.idle", f"{limits.idle_seconds:g} s")


def _role(uris: tuple[str, ...]) -> ClientRole:
    """Return the role in a certificate's URIs, which the owner's authority has signed."""
    names = [uri.removeprefix(ROLE_URI_PREFIX) for uri in uris if uri.startswith(ROLE_URI_PREFIX)]
    if len(names) != 1 or names[0] not in set(ClientRole):
        raise PeerError("owner.role", "the certificate does not name one role")
    return ClientRole(names[0])
