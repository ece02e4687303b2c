"""Invariant: a compressed layer, whatever its bytes, gives the same in any pieces, or an error of
ours; what is given is no more than the cap, and what another reader of gzip or zstd finds there;
whatever that one takes as a whole is taken.

Run as `python -m tests.fuzz.fuzz_compression [SECONDS [SEED]]`.
"""

import gzip
import hashlib
import random
import struct
import zlib

import zstandard

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.oci.compression import Compression
from ccinit.pull.layers.decompress import Chunk, decompress
from tests.fuzz.trials import Trials, run

CAP_BYTES = 1 << 16
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"
PLAIN = (b"", b"a", bytes(600), bytes(range(256)) * 3, hashlib.sha256().digest(), b"ab" * 20_000)
NOISE = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\0\0\xff\xff", bytes(8), b"\xff" * 4, SKIPPABLE)


def undo(compression: Compression, data: bytes, cuts: list[int]) -> bytes | str:
    """Return what a stream that comes in pieces gives, or the reason of its refusal."""
    output = bytearray()

    def sink(piece: Chunk) -> None:
        output.extend(piece)
        assert len(output) <= CAP_BYTES

    bounds = zip([0, *cuts], [*cuts, len(data)], strict=True)
    pieces = (data[start:end] for start, end in bounds)
    try:
        decompress(pieces, compression, sink, max_bytes=CAP_BYTES)
    except (FormatError, LimitExceededError) as error:
        return error.reason
    return bytes(output)


def other_reader(compression: Compression, data: bytes) -> bytes | None:
    """Return what a reader that is not ours finds in a stream, None if it is not whole."""
    try:
        return inflate(data) if compression is Compression.GZIP else read_frames(data)
    except (zlib.error, zstandard.ZstdError):
        return None


def inflate(data: bytes) -> bytes | None:
    """Undo members of gzip with zlib."""
    output = b""
    while data:
        member = zlib.decompressobj(31)
        output += member.decompress(data, 2 * CAP_BYTES)
        if not member.eof:
            return None
        data = member.unused_data
    return output


def read_frames(data: bytes) -> bytes | None:
    """Undo frames of zstd one by one; skippable ones are told by their length."""
    output = b""
    while data:
        magic, size = struct.unpack_from("<II", data.ljust(8, b"\0"))
        if magic & 0xFFFF_FFF0 == 0x184D_2A50:
            if len(data) < 8 + size:
                return None
            data = data[8 + size :]
            continue
        frame = zstandard.ZstdDecompressor(max_window_size=16 << 20).decompressobj()
        output += frame.decompress(data)
        if not frame.eof:
            return None
        data = frame.unused_data
    return output


def member(source: random.Random) -> bytes:
    """Return a member of gzip with some of the fields that its header may have."""
    flags = source.choice((0, 0, 0, 2, 4, 8, 16, 31))
    head = struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, flags, 0, 0, 3)
    head += b"\x03\0abc" * bool(flags & 4) + b"name\0" * bool(flags & 8) + b"\0" * bool(flags & 16)
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) * bool(flags & 2)
    plain = source.choice(PLAIN)
    packer = zlib.compressobj(source.randrange(10), zlib.DEFLATED, -source.randrange(9, 16))
    body = packer.compress(plain) + packer.flush()
    return head + body + struct.pack("<II", zlib.crc32(plain), len(plain))


def frame(source: random.Random) -> bytes:
    """Return a frame of zstd, with or without its size and checksum, or a skippable one."""
    if not source.randrange(4):
        return SKIPPABLE
    parameters = zstandard.ZstdCompressionParameters(
        compression_level=source.choice((1, 3, 19)),
        write_checksum=source.randrange(2),
        write_content_size=source.randrange(2),
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    return packer.compress(source.choice(PLAIN))


def mutate(source: random.Random, data: bytes) -> bytes:
    """Flip a bit, cut, insert, or leave as it is."""
    changed = bytearray(data)
    spot = source.randrange(len(changed) + 1)
    match source.randrange(5):
        case 0 if spot < len(changed):
            changed[spot] ^= 1 << source.randrange(8)
        case 1:
            del changed[spot:]
        case 2:
            changed[spot:spot] = source.choice(NOISE)
        case 3:
            del changed[spot : spot + source.randrange(1, 9)]
        case _:
            pass
    return bytes(changed)


def check(source: random.Random, compression: Compression, data: bytes) -> bool:
    """Check the invariant for one stream; return whether it was taken."""
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(4)))
    found = undo(compression, data, [])
    other = other_reader(compression, data)
    in_pieces = undo(compression, data, cuts)
    # A cut frame of zstd is not told from a whole one, and bytes that are none may be waited for.
    if compression is Compression.GZIP or other is not None:
        is_refused = isinstance(found, str) and isinstance(in_pieces, str)  # by either reason
        assert is_refused or in_pieces == found, cuts
    if isinstance(found, str):
        assert found.startswith("pull."), found
        assert other is None or len(other) > CAP_BYTES, found
        return False
    assert other is None or other == found
    return True


def main(seconds: float, seed: int) -> int:
    """Check streams for a while; return how many."""
    trials = Trials(seconds, seed)
    runs = taken = 0
    assert check(trials.source, Compression.GZIP, gzip.compress(b"x"))
    for source in trials:
        for compression, make in ((Compression.GZIP, member), (Compression.ZSTD, frame)):
            whole = b"".join(make(source) for _ in range(source.randrange(4)))
            taken += check(source, compression, mutate(source, whole))
            runs += 1
    trials.require(taken, one_in=5)
    return runs


if __name__ == "__main__":
    run(main)
