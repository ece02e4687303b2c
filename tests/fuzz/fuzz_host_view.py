"""Invariant: what a guest wrote where the host looks afterwards (EFI variables, packets, vsock) or
the owner looks meanwhile (metrics), whatever its bytes, is read or refused with a `CcinitError`; of
a packet nothing but fixed headers is left out of what is searched.

Run as `python -m tests.fuzz.fuzz_host_view [SECONDS [SEED]]`.
"""

import contextlib
import io
import struct

from ccinit.errors import CcinitError
from guest_owner.table import format_table
from guest_owner.usage import HEADER, parse_metrics, rows, summarize
from host_runtime.host_view.efi_variables import parse_variable_store
from host_runtime.host_view.pcap import count_bytes, join_streams, read_frames
from host_runtime.vsock.capture import read_records
from tests.fuzz.mutation import check_mutated
from tests.fuzz.trials import Trials, run

MAC = bytes.fromhex("525400123456")
FIXED_BYTES = 20 + 20  # of IPv4 and TCP
ETHERNET = bytes(6) + MAC + b"\x08\x00"


def packet(protocol: int, segment: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, protocol, 0)
    return ETHERNET + head + b"\x0a\x00\x02\x0f" + b"\x0a\x00\x02\x02" + segment


TCP = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 5 << 4, 0, 0, 0, 0) + b"canary"
FRAMES = (packet(6, TCP), packet(17, struct.pack(">HHHH", 1, 2, 14, 0) + b"canary"))
PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(
    struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in FRAMES
)
NAME = "Boot".encode("utf-16-le") + b"\0\0"
ENTRY = struct.pack("<HBBIQ16sIII16s", 0x55AA, 0x3F, 0, 7, 0, b"", 0, len(NAME), 5, bytes(16))
FLASH = bytes(40) + b"_FVH" + bytes(4) + struct.pack("<H", 72) + bytes(22 + 28)
FLASH += 2 * (ENTRY + NAME + b"value" + bytes(1)) + b"\xff" * 64
CAPTURE = struct.pack("<IBI", 1, 1, 5) + b"hello" + struct.pack("<IBI", 1, 2, 2) + b"ok"
METRICS = (
    b"# HELP x\nccinit_uptime_seconds 12.5\nccinit_memory_total_bytes 1\n"
    b'ccinit_container_state{container="web",state="running"} 1\n'
    b'ccinit_container_cpu_seconds_total{container="web"} 3\n'
)
SEEDS = (PCAP, FLASH, CAPTURE, METRICS)
NOISE = (
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xaa\x55", b"\xff\xff", b"\0", b"nan", b"inf", b"1e400"),
    *(b'",', b"{", b"}", b" ", b"\n", b"\x1b[2J", b"\xe2\x80\xae", b"\x45", b"\x4f", b"\x08\x00"),
)


def check(data: bytes) -> None:
    """Check the invariant for each reader."""
    with contextlib.suppress(CcinitError):
        parse_variable_store(data)
    with contextlib.suppress(CcinitError):
        tuple(read_records(io.BytesIO(data)))
    with contextlib.suppress(CcinitError):
        check_frames(tuple(read_frames(io.BytesIO(data))))
    with contextlib.suppress(CcinitError):
        check_metrics(data.decode(errors="backslashreplace"))


def check_frames(frames: tuple[bytes, ...]) -> None:
    streams = join_streams(frames, MAC)
    assert sum(map(len, streams.values())) <= sum(map(len, frames))
    count_bytes(frames, MAC)
    for frame in frames:
        if frame[6:12] == MAC:
            searched = sum(map(len, join_streams((frame,), MAC).values()))
            assert len(frame) - FIXED_BYTES <= searched <= len(frame)


def check_metrics(text: str) -> None:
    now = parse_metrics(text)
    shown = summarize(now) + format_table(HEADER, rows(parse_metrics(""), now))
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def main(seconds: float, seed: int) -> int:
    """Check bytes for a while; return how many."""
    return check_mutated(check, SEEDS, NOISE, Trials(seconds, seed))


if __name__ == "__main__":
    run(main)
