"""Puts the byte streams of a packet capture together again (libpcap file format, RFC 9293 ports).

Only as far as a search needs: per direction of each TCP or UDP conversation, payloads in order of
arrival, repeated TCP segments once. What is not IPv4, TCP or UDP is one stream of whole frames.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Final

from ccinit.errors import FormatError

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC: Final = 0xA1B2C3D4
_ETHERNET_BYTES: Final = 14
_IPV4: Final = 0x0800
_TCP, _UDP = 6, 17

Conversation = bytes
_OTHER: Final = b"frames"


def read_frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield a capture file's Ethernet frames, one in memory at a time.

    A cut last one (killed QEMU) is left out.

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

    Payload is what `join_streams` gives, but a segment counts as often as it was sent.
    """
    return sum(
        _ETHERNET_BYTES + len(_dissect(frame)[2]) for frame in frames if frame[6:12] == source_mac
    )


def join_streams(frames: Iterable[bytes], source_mac: bytes) -> Mapping[Conversation, bytes]:
    """Return the streams that `source_mac` sent, by conversation (addresses, protocol, ports)."""
    streams: dict[Conversation, bytearray] = {}
    seen: set[tuple[Conversation, int, int]] = set()
    for frame in frames:
        if frame[6:12] != source_mac:
            continue
        streams.setdefault(_OTHER, bytearray()).extend(frame[:_ETHERNET_BYTES])
        conversation, sequence, payload = _dissect(frame)
        if sequence is not None:
            key = (conversation, sequence, len(payload))
            if key in seen:
                continue
            seen.add(key)
        streams.setdefault(conversation, bytearray()).extend(payload)
    return {key: bytes(content) for key, content in streams.items()}


def _dissect(frame: bytes) -> tuple[Conversation, int | None, bytes]:
    packet = frame[_ETHERNET_BYTES:]
    if int.from_bytes(frame[12:14], "big") != _IPV4 or len(packet) < 20:
        return _OTHER, None, packet
    header_bytes = (packet[0] & 0xF) * 4
    packet_bytes = int.from_bytes(packet[2:4], "big")
    if packet_bytes < 20:
        return _OTHER, None, packet
    packet = packet[:packet_bytes]  # without Ethernet's padding
    protocol, segment = packet[9], packet[header_bytes:]
    conversation = packet[12:20] + bytes((protocol,)) + segment[:4]
    if protocol == _TCP and len(segment) >= 20:
        sequence = int.from_bytes(segment[4:8], "big")
        return conversation, sequence, segment[(segment[12] >> 4) * 4 :]
    if protocol == _UDP and len(segment) >= 8:
        return conversation, None, segment[8:]
    return _OTHER, None, packet
