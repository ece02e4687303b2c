import hashlib
import hmac

import pytest

from ccinit.errors import VerificationError
from ccinit.secret import Secret
from ccinit.unlock.volume_key import derive_encryption_key

RELEASED = bytes(range(128, 192))


def hkdf_sha256(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 written out, with the empty salt's 32 zero bytes."""
    pseudorandom = hmac.digest(bytes(32), key, hashlib.sha256)
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(pseudorandom, block + info + bytes((counter,)), hashlib.sha256)
        output += block
    return output[:length]


def test_key_is_hkdf_of_the_released_bytes() -> None:
    expected = hkdf_sha256(RELEASED, b"ccinit/volume/v1/web/data/encryption", 96)
    assert derive_encryption_key(Secret(RELEASED), "web", "data").reveal() == expected


@pytest.mark.parametrize(("pod", "volume"), [("web", "other"), ("other", "data")])
def test_key_of_another_name_is_another_key(pod: str, volume: str) -> None:
    key = derive_encryption_key(Secret(RELEASED), "web", "data")
    assert derive_encryption_key(Secret(RELEASED), pod, volume) != key


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(RELEASED[:63], id="short"),
        pytest.param(RELEASED + b"\xff", id="long"),
        pytest.param(bytes(64), id="all-zero"),
        pytest.param(b"\xff" * 64, id="one-byte-repeated"),
        pytest.param(b"0123456789abcdef" * 4, id="hex-text"),
        pytest.param(b"correct horse battery staple".ljust(64, b"\n"), id="passphrase"),
    ],
)
def test_r34_released_bytes_that_are_no_key_are_refused(content: bytes) -> None:
    derive_encryption_key(Secret(RELEASED), "web", "data")
    with pytest.raises(VerificationError) as error:
        derive_encryption_key(Secret(content), "web", "data")
    assert error.value.reason == "volume.key"
    assert len(content) < 8 or content.decode("latin-1") not in str(error.value)
