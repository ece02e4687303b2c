"""Reassembles the byte streams of a packet capture (libpcap file format, RFC 9293 ports).

Only as far as a search needs: for each direction of a TCP or UDP conversation, the payloads in
order of arrival, with retransmitted TCP segments once. Frames that are not IPv4, TCP or UDP go
whole into one further stream. So does what other frames hold besides fixed headers and payload:
options, and the bytes behind the packet's end, where drivers have been known to leak memory.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from ccinit.errors import FormatError

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC: Final = 0xA1B2C3D4
_ETHERNET_BYTES: Final = 14
_IPV4: Final = 0x0800
_IPV4_BYTES, _TCP_BYTES, _UDP_BYTES = 20, 20, 8  # of headers without options
_TCP, _UDP = 6, 17

Conversation = bytes
_OTHER: Final = b"frames"


def read_frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield a capture file's Ethernet frames, one in memory at a time.

    A truncated last frame (of a killed QEMU) is left out.

    Raises:
        FormatError: `pcap.magic`: not a little-endian microsecond capture.
    """
    head = file.read(_FILE_HEADER.size)
    if not head:
        return
    if len(head) < _FILE_HEADER.size or _FILE_HEADER.unpack(head)[0] != _MAGIC:
        raise FormatError("pcap.magic", "not a capture file of QEMU's filter-dump")
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        _, _, length, _ = _RECORD.unpack(head)
        frame = file.read(length)
        if len(frame) < length:
            return
        yield frame


def count_bytes(frames: Iterable[bytes], source_mac: bytes) -> int:
    """Return how many bytes `source_mac` sent in Ethernet headers and payloads.

    Payload is as in `join_streams`, except that a segment counts as often as it was sent.
    """
    return sum(
        _ETHERNET_BYTES + len(_dissect(frame).payload)
        for frame in frames
        if frame[6:12] == source_mac
    )


def join_streams(frames: Iterable[bytes], source_mac: bytes) -> Mapping[Conversation, bytes]:
    """Return the streams that `source_mac` sent, by conversation (addresses, protocol, ports)."""
    streams: dict[Conversation, bytearray] = {}
    seen: set[tuple[Conversation, int, bytes]] = set()
    for frame in frames:
        if frame[6:12] != source_mac:
            continue
        part = _dissect(frame)
        other = streams.setdefault(_OTHER, bytearray())
        other += frame[:_ETHERNET_BYTES] + part.beside
        if part.sequence is not None:
            digest = hashlib.sha256(part.payload).digest()  # a retransmission may differ
            key = (part.conversation, part.sequence, digest)
            if key in seen:
                continue
            seen.add(key)
        streams.setdefault(part.conversation, bytearray()).extend(part.payload)
    return {key: bytes(content) for key, content in streams.items()}


@dataclass(frozen=True, slots=True)
class _Part:
    """One frame's part of a stream.

    Attributes:
        sequence: sequence number of a TCP segment, else None.
        beside: options, and bytes behind the packet's end.
    """

    conversation: Conversation
    sequence: int | None
    payload: bytes
    beside: bytes = b""


def _dissect(frame: bytes) -> _Part:
    packet = frame[_ETHERNET_BYTES:]
    whole = _Part(_OTHER, None, packet)
    if int.from_bytes(frame[12:14], "big") != _IPV4 or len(packet) < _IPV4_BYTES:
        return whole
    header_bytes = (packet[0] & 0xF) * 4
    packet_bytes = int.from_bytes(packet[2:4], "big")
    if not _IPV4_BYTES <= header_bytes <= packet_bytes:
        return whole
    packet, behind = packet[:packet_bytes], packet[packet_bytes:]
    protocol, segment = packet[9], packet[header_bytes:]
    conversation = packet[12:20] + bytes((protocol,)) + segment[:4]
    beside = packet[_IPV4_BYTES:header_bytes] + behind
    if protocol == _TCP and len(segment) >= _TCP_BYTES:
        data = max(_TCP_BYTES, (segment[12] >> 4) * 4)
        sequence = int.from_bytes(segment[4:8], "big")
        return _Part(conversation, sequence, segment[data:], segment[_TCP_BYTES:data] + beside)
    if protocol == _UDP and len(segment) >= _UDP_BYTES:
        return _Part(conversation, None, segment[_UDP_BYTES:], beside)
    return whole
