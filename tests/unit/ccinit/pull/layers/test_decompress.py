import gzip
import struct
import zlib

import pytest
import zstandard
from isal import igzip_lib

from ccinit.errors import FormatError
from ccinit.formats.oci.compression import Compression
from ccinit.pull.layers.decompress import Chunk, decompress
from tests.faults.plugin import FaultSeen

PLAIN = bytes(range(256)) * 5000
LIMIT = 4 << 20
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"


def undo(compression: Compression, data: bytes, *, piece: int = 1000, limit: int = LIMIT) -> bytes:
    return b"".join(sent(compression, data, piece=piece, limit=limit))


def sent(compression: Compression, data: bytes, *, piece: int, limit: int = LIMIT) -> list[bytes]:
    output: list[bytes] = []

    def sink(made: Chunk) -> None:
        output.append(bytes(made))

    pieces = (data[start : start + piece] for start in range(0, len(data), piece))
    decompress(pieces, compression, sink, max_bytes=limit)
    return output


def zstd(data: bytes, window_log: int = 20) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize(
    ("compression", "data"),
    [
        (Compression.NONE, PLAIN[:20_000]),
        (Compression.GZIP, gzip.compress(PLAIN[:20_000])),
        (Compression.GZIP, gzip.compress(PLAIN[:9_000]) + gzip.compress(PLAIN[9_000:20_000])),
        (Compression.GZIP, gzip.compress(b"") + gzip.compress(PLAIN[:20_000], 0)),
        (Compression.ZSTD, zstd(PLAIN[:20_000])),
        (Compression.ZSTD, zstd(PLAIN[:9_000]) + SKIPPABLE + zstd(PLAIN[9_000:20_000])),
        (Compression.ZSTD, SKIPPABLE + zstd(PLAIN[:20_000])),
        (Compression.ZSTD, zstd(PLAIN[:20_000]) + SKIPPABLE),
        (Compression.ZSTD, zstd(PLAIN[:20_000], window_log=24)),
        (Compression.GZIP, b"".join(gzip.compress(bytes([b]), 1) for b in PLAIN[:20_000])),
    ],
)
def test_stream_of_every_kind_in_any_pieces_gives_its_content(
    compression: Compression, data: bytes, piece: int
) -> None:
    assert undo(compression, data, piece=piece) == PLAIN[:20_000]


@pytest.mark.parametrize("flags", [0x00, 0x02, 0x04, 0x08, 0x10, 0x1C, 0x1F])
def test_header_of_a_gzip_member_may_be_cut_anywhere(flags: int) -> None:
    head = b"\x1f\x8b\x08" + bytes((flags, *bytes(5), 3))
    head += b"\x03\0abc" * bool(flags & 4) + b"name\0" * bool(flags & 8)
    head += b"comment\0" * bool(flags & 16)
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) * bool(flags & 2)
    data = gzip.compress(b"a") + head + gzip.compress(PLAIN[:50])[10:]
    for piece in range(1, len(data) + 1):
        assert undo(Compression.GZIP, data, piece=piece) == b"a" + PLAIN[:50]


@pytest.mark.parametrize("compression", Compression)
def test_empty_stream_gives_nothing(compression: Compression) -> None:
    assert undo(compression, b"") == b""


GZIP = gzip.compress(PLAIN)
WINDOW_OF_2_GIB = b"\x28\xb5\x2f\xfd" + b"\x00\xa8" + b"\x01\x00\x00"
"""An empty frame (RFC 8878, section 3.1.1) whose header asks for a window of 2^31 bytes."""


@pytest.mark.parametrize(
    ("compression", "data", "reason"),
    [
        (Compression.GZIP, GZIP[:-1], "pull.gzip"),
        (Compression.GZIP, GZIP[: len(GZIP) // 2], "pull.gzip"),
        (Compression.GZIP, GZIP[:-8] + bytes(8), "pull.gzip"),
        (Compression.GZIP, GZIP + b"\0", "pull.gzip"),
        (Compression.GZIP, GZIP + b"junk", "pull.gzip"),
        (Compression.GZIP, GZIP + b"\x1f\x8bjunk", "pull.gzip"),
        (Compression.GZIP, GZIP[:3] + b"\x20" + GZIP[4:], "pull.gzip"),
        (Compression.GZIP, GZIP[:3] + b"\x08" + GZIP[4:10] + b"n" * (1 << 17), "pull.gzip"),
        (Compression.GZIP, zlib.compress(PLAIN), "pull.gzip"),
        (Compression.GZIP, PLAIN, "pull.gzip"),
        (Compression.ZSTD, zstd(PLAIN) + b"junk", "pull.zstd"),
        (Compression.ZSTD, PLAIN, "pull.zstd"),
        (Compression.ZSTD, zstd(PLAIN, window_log=25), "pull.zstd"),
        (Compression.ZSTD, WINDOW_OF_2_GIB, "pull.zstd"),
    ],
)
def test_r56_stream_that_is_malformed_is_refused(
    compression: Compression, data: bytes, reason: str, fault_seen: FaultSeen
) -> None:
    with pytest.raises(FormatError) as refused:
        undo(compression, data)
    assert refused.value.reason == reason
    fault_seen.guest(reason)
    assert undo(Compression.GZIP, GZIP) == undo(Compression.ZSTD, zstd(PLAIN)) == PLAIN


@pytest.mark.parametrize("compression", Compression)
def test_r56_output_beyond_the_cap_is_refused(compression: Compression) -> None:
    packed = {
        Compression.NONE: PLAIN,
        Compression.GZIP: GZIP,
        Compression.ZSTD: zstd(PLAIN),
    }[compression]
    limit = len(PLAIN) - 1
    with pytest.raises(FormatError) as refused:
        undo(compression, packed, limit=limit)
    assert refused.value.reason == "pull.layer_bytes"
    assert undo(compression, packed, limit=len(PLAIN)) == PLAIN


def test_r56_ratio_that_only_a_bomb_has_is_refused() -> None:
    zeros = bytes(80 << 20)
    limit = 1 << 40
    with pytest.raises(FormatError) as refused:
        undo(Compression.ZSTD, zstd(zeros), limit=limit)
    assert refused.value.reason == "pull.ratio"
    assert undo(Compression.GZIP, gzip.compress(zeros), limit=limit) == zeros


TINY = [gzip.compress(b"x", 1)] * 5000
FRAMES = [zstd(b"x")] * 5000


@pytest.mark.parametrize(
    ("compression", "parts"), [(Compression.GZIP, TINY), (Compression.ZSTD, FRAMES)]
)
def test_what_small_members_give_is_sent_together(
    compression: Compression, parts: list[bytes]
) -> None:
    data = b"".join(parts)
    assert sent(compression, data, piece=len(data)) == [b"x" * len(parts)]


def test_member_is_not_given_all_that_comes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It copies what belongs to others: all of a chunk for each of the members in it."""
    given = [0]

    class Member:
        def __init__(self) -> None:
            self._own = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            given[0] += len(data)
            return self._own.decompress(data, max_length)

        def __getattr__(self, name: str) -> object:
            return getattr(self._own, name)

    monkeypatch.setattr("ccinit.pull.layers.decompress._gzip_member", Member)
    data = b"".join(TINY)
    assert undo(Compression.GZIP, data, piece=len(data)) == b"x" * len(TINY)
    assert given[0] <= len(TINY) << 14
    assert given[0] < len(TINY) * len(data) / 4
