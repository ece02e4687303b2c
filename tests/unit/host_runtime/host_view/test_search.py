import base64
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from host_runtime.host_view.search import Encoding, Hit, encode_canary, find_canaries

CANARY = b"canary/\xfb\xff 7c1e09f5"


@dataclass
class Pieces:
    name: str
    content: tuple[bytes, ...]

    def pieces(self) -> Iterator[bytes]:
        yield from self.content


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
def test_base64_is_found_at_each_position(before: bytes) -> None:
    for encode, prefix in (
        (base64.b64encode, "base64-"),
        (base64.urlsafe_b64encode, "base64url-"),
    ):
        sink = Pieces("disk", (encode(before + CANARY + b" and more"),))
        found = {hit.encoding for hit in find_canaries({"key": CANARY}, [sink])}
        assert Encoding(f"{prefix}{len(before) % 3}") in found


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CANARY, Encoding.RAW),
        (CANARY.hex().encode(), Encoding.HEX_LOWER),
        (CANARY.hex().upper().encode(), Encoding.HEX_UPPER),
        (CANARY.decode("latin-1").encode("utf-16-le"), Encoding.UTF16LE),
        (CANARY.decode("latin-1").encode("utf-16-be"), Encoding.UTF16BE),
        (CANARY[::-1], Encoding.REVERSED),
        (quote(CANARY, safe="").encode(), Encoding.PERCENT),
        (b"".join(b"%%%02x" % byte for byte in CANARY), Encoding.PERCENT_ALL_LOWER),
        (b"".join(b"%%%02X" % byte for byte in CANARY), Encoding.PERCENT_ALL_UPPER),
    ],
)
def test_canary_is_found_in_each_encoding(text: bytes, encoding: Encoding) -> None:
    sink = Pieces("serial", (b"other", b"before" + text + b"after"))
    assert find_canaries({"key": CANARY}, [sink]) == (
        Hit(sink="serial", canary="key", encoding=encoding),
    )


def test_canary_that_is_not_there_is_not_found() -> None:
    sink = Pieces("serial", (CANARY[:-1], CANARY[1:]))
    assert find_canaries({"key": CANARY}, [sink]) == ()


def test_forms_hold_only_what_the_canary_decides() -> None:
    for before in range(3):
        for after in range(3):
            text = base64.b64encode(bytes(before) + CANARY + b"\xff" * after)
            assert encode_canary(CANARY)[Encoding(f"base64-{before}")] in text


@pytest.mark.parametrize("size", [0, 7, 129])
def test_canary_of_unsuitable_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="canary"):
        encode_canary(bytes(size))
