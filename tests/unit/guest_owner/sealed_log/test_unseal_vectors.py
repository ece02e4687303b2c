"""Published vectors of the sealed log: made anew alike, read as described, refused if changed."""

import json

from ccinit.formats.sealed_log import HEADER_BYTES, parse_head
from guest_owner.sealed_log.key import LogKey
from tests.fakes.documents.unsealed_log import unseal
from tests.vectors.sealed_log import make_vectors


def test_vectors_are_made_again_byte_by_byte() -> None:
    stream = (make_vectors.FOLDER / "stream.bin").read_bytes()
    assert make_vectors.make_stream() == stream
    text = (make_vectors.FOLDER / "stream.json").read_text(encoding="ascii")
    assert make_vectors.describe() + "\n" == text


def test_vectors_read_as_described() -> None:
    folder = make_vectors.FOLDER
    expected = json.loads((folder / "stream.json").read_text(encoding="ascii"))
    result = unseal(
        (folder / "stream.bin").read_bytes(),
        LogKey(bytes.fromhex(expected["owner_seed"])),
        psk=bytes.fromhex(expected["shared_key"]),
    )
    assert result.findings == ()
    assert result.records == expected["records"]
    assert [
        {
            "index": entry.index,
            "kind": entry.kind,
            "source": entry.source,
            "bytes": len(entry.data),
        }
        for entry in result.entries
    ] == expected["entries"]


def test_seed_that_another_implementation_sealed_is_opened() -> None:
    stream = make_vectors.make_stream("header_hpke_js.hex")
    assert stream[:HEADER_BYTES] != make_vectors.make_stream()[:HEADER_BYTES]
    key = LogKey(make_vectors.OWNER_SEED)
    result = unseal(stream, key, psk=make_vectors.SHARED_KEY)
    assert result.findings == ()
    assert result.records > 0


def test_vectors_with_any_sampled_bit_flipped_are_refused() -> None:
    folder = make_vectors.FOLDER
    stream = (folder / "stream.bin").read_bytes()
    key = LogKey(make_vectors.OWNER_SEED)
    for offset in range(0, len(stream), 97):
        changed = bytearray(stream)
        changed[offset] ^= 0x01
        result = unseal(bytes(changed), key, psk=make_vectors.SHARED_KEY)
        assert result.findings, offset
        assert result.findings[0].index == record_at(stream, offset)


def record_at(stream: bytes, offset: int) -> int:
    position, index = HEADER_BYTES, 0
    while position <= offset:
        position += parse_head(stream[position:]).size_class.wire_bytes
        index += 1
    return index
