"""What vhost-user messages do: features, guest memory, the start and stop of the two rings.

The peer is our own QEMU, so a message that breaks the protocol ends the device. What the *guest*
put into a ring is another matter: a ring that cannot be set up is marked broken and waits for the
driver's next reset. Reading rings is left to `host_runtime.vsock.datapath`.
"""

import logging
import os
from typing import Final, Protocol

from ccinit.errors import FormatError
from host_runtime.vsock.guest_memory import GuestMemory, open_guest_memory
from host_runtime.vsock.vhost_user import (
    FEATURE_PROTOCOL,
    FEATURE_VERSION_1,
    PROTOCOL_CONFIG,
    PROTOCOL_REPLY_ACK,
    Message,
    Request,
    encode_config,
    encode_number,
    encode_reply,
    encode_vring_state,
    parse_memory_table,
    parse_number,
    parse_vring_address,
    parse_vring_state,
)
from host_runtime.vsock.virtqueue import RingLayout, Virtqueue

TO_GUEST: Final = 0
FROM_GUEST: Final = 1
RINGS: Final = (TO_GUEST, FROM_GUEST)  # QEMU keeps the event queue to itself

_FEATURES = FEATURE_VERSION_1 | FEATURE_PROTOCOL
_PROTOCOL_FEATURES = PROTOCOL_REPLY_ACK | PROTOCOL_CONFIG
_INDEX_MASK = 0xFF
_NO_DESCRIPTOR = 1 << 8
_LOGGED_BREAKS = 16

_log = logging.getLogger(__name__)


class Ring:
    """One ring's settings as QEMU sent them, and the running queue once they suffice."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.size = 0
        self.layout: RingLayout | None = None
        self.next_index = 0
        self.kick: int | None = None
        self.call: int | None = None
        self.is_enabled = False
        self.is_broken = False
        self.queue: Virtqueue | None = None

    def interrupt(self) -> None:
        """Tell the driver that buffers were published, if it asks to be told."""
        if self.call is not None and self.queue is not None and self.queue.wants_interrupt():
            os.eventfd_write(self.call, 1)


class RingObserver(Protocol):
    """Is told when a ring's kick descriptor comes or goes, and when a ring is lost."""

    def add_kick(self, descriptor: int, ring: Ring) -> None:
        """Watch `descriptor`: it becomes readable when the ring has news."""

    def remove_kick(self, descriptor: int) -> None:
        """Stop watching `descriptor`, which is closed next."""

    def lose_ring(self) -> None:
        """Handle the loss of a ring, which is broken or starts over: what was under way is lost."""


class VhostUserBackend:
    """The device's side of one vhost-user connection; `broken` counts broken rings."""

    def __init__(self, *, guest_cid: int, observer: RingObserver) -> None:
        self.rings = tuple(map(Ring, RINGS))
        self.broken = 0
        self._guest_cid = guest_cid
        self._observer = observer
        self._memory: GuestMemory | None = None

    def handle(self, message: Message) -> bytes | None:
        """Carry out one message; return the reply, if one is due. Takes over its descriptors.

        Raises:
            FormatError: the message is malformed or unknown; the connection must end.
        """
        unused = set(message.descriptors)
        try:
            reply = self._dispatch(message, unused)
        finally:
            for descriptor in unused:
                os.close(descriptor)
        if reply is not None:
            return encode_reply(message.request, reply)
        if message.needs_reply:
            return encode_reply(message.request, encode_number(0))
        return None

    def break_ring(self, ring: Ring, error: FormatError) -> None:
        """Stop serving a ring that the guest made malformed, until the driver resets it."""
        self.broken += 1
        if self.broken <= _LOGGED_BREAKS:  # a guest can reset its device and break it for ever
            _log.warning("ring %d is broken: %s", ring.index, error)
        ring.is_broken = True
        ring.queue = None
        self._observer.lose_ring()

    def close(self) -> None:
        """Stop both rings and close every descriptor."""
        for ring in self.rings:
            self._stop(ring)
            ring.call = _replace(ring.call, None)

    def _dispatch(self, message: Message, unused: set[int]) -> bytes | None:
        match message.request:
            case Request.GET_FEATURES:
                return encode_number(_FEATURES)
            case Request.GET_PROTOCOL_FEATURES:
                return encode_number(_PROTOCOL_FEATURES)
            case Request.GET_QUEUE_NUM:
                return encode_number(len(RINGS))
            case Request.GET_CONFIG:
                return encode_config(message.payload, self._guest_cid)
            case Request.GET_VRING_BASE:
                return self._get_base(message)
            case _:
                self._set(message, unused)
                return None

    def _set(self, message: Message, unused: set[int]) -> None:
        match message.request:
            case Request.SET_FEATURES:
                self._set_features(parse_number(message.payload))
            case Request.SET_OWNER | Request.RESET_OWNER | Request.SET_PROTOCOL_FEATURES:
                pass
            case Request.SET_MEM_TABLE:
                layouts = parse_memory_table(message.payload)
                self._set_memory(open_guest_memory(layouts, message.descriptors))
            case Request.SET_VRING_KICK | Request.SET_VRING_CALL | Request.SET_VRING_ERR:
                self._set_descriptor(message, unused)
            case Request.SET_VRING_ADDR:
                self._set_address(message.payload)
            case Request.SET_VRING_NUM | Request.SET_VRING_BASE | Request.SET_VRING_ENABLE:
                self._set_state(message)
            case _:
                raise FormatError("vhost.request", f"request {message.request} is not known")

    def _set_features(self, features: int) -> None:
        if features & ~_FEATURES:
            raise FormatError("vhost.features", f"{features:#x} was not offered")
        for ring in self.rings:
            # Without protocol features there is no enable message: rings run from the start.
            ring.is_enabled |= not features & FEATURE_PROTOCOL

    def _set_memory(self, memory: GuestMemory) -> None:
        self._memory = memory
        for ring in self.rings:
            self._pause(ring)
            self._start(ring)  # goes on where it was, in the new mapping

    def _set_address(self, payload: bytes) -> None:
        address = parse_vring_address(payload)
        ring = self._ring(address.index)
        ring.layout = RingLayout(
            size=ring.size,
            descriptors=address.descriptors,
            available=address.available,
            used=address.used,
        )

    def _set_state(self, message: Message) -> None:
        index, value = parse_vring_state(message.payload)
        ring = self._ring(index)
        match message.request:
            case Request.SET_VRING_NUM:
                ring.size = value
            case Request.SET_VRING_BASE:
                self._set_base(ring, value)
            case _:
                ring.is_enabled = bool(value)
                if not ring.is_enabled:
                    self._pause(ring)
                self._start(ring)

    def _set_descriptor(self, message: Message, unused: set[int]) -> None:
        value = parse_number(message.payload)
        ring = self._ring(value & _INDEX_MASK)
        descriptor = None
        if not value & _NO_DESCRIPTOR:
            if len(message.descriptors) != 1:
                raise FormatError("vhost.descriptor", "expected exactly one descriptor")
            descriptor = message.descriptors[0]
        if message.request == Request.SET_VRING_ERR:
            return  # a broken ring is only logged: QEMU would ignore the report
        unused.discard(descriptor if descriptor is not None else -1)
        if message.request == Request.SET_VRING_CALL:
            ring.call = _replace(ring.call, descriptor)
            return
        self._drop_kick(ring)
        if descriptor is not None:
            os.set_blocking(descriptor, False)
            ring.kick = descriptor
            self._observer.add_kick(descriptor, ring)
        self._start(ring)

    def _set_base(self, ring: Ring, value: int) -> None:
        """Continue where the ring was stopped, or start over.

        QEMU stops rings in the same way if a guest resets its device and if the machine is paused.
        Only after a pause do the ring, and the connections, continue where they were.
        """
        if value != ring.next_index:
            self._observer.lose_ring()
        ring.next_index = value

    def _get_base(self, message: Message) -> bytes:
        index, _ = parse_vring_state(message.payload)
        ring = self._ring(index)
        self._stop(ring)
        return encode_vring_state(index, ring.next_index)

    def _start(self, ring: Ring) -> None:
        memory, layout = self._memory, ring.layout
        if ring.queue is not None or ring.is_broken or not ring.is_enabled:
            return
        if memory is None or layout is None or ring.kick is None:
            return
        try:
            ring.queue = Virtqueue(memory=memory, layout=layout, last_available=ring.next_index)
        except FormatError as error:
            self.break_ring(ring, error)

    def _pause(self, ring: Ring) -> None:
        """Leave a ring's buffers and its connections alone until it starts again.

        By the protocol a disabled ring must have no side effects, and a network card may discard
        what is sent meanwhile. That would tear a hole into a stream, so here it waits in the ring.
        """
        if ring.queue is not None:
            ring.next_index = ring.queue.last_available
            ring.queue = None

    def _stop(self, ring: Ring) -> None:
        self._pause(ring)
        ring.is_broken = False
        self._drop_kick(ring)

    def _drop_kick(self, ring: Ring) -> None:
        if ring.kick is not None:
            self._observer.remove_kick(ring.kick)
            ring.kick = _replace(ring.kick, None)

    def _ring(self, index: int) -> Ring:
        if index not in RINGS:
            raise FormatError("vhost.ring", f"there is no ring {index}")
        return self.rings[index]


def _replace(old: int | None, new: int | None) -> int | None:
    if old is not None:
        os.close(old)
    return new
