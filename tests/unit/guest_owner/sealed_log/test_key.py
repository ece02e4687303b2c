"""The owner's log key."""

import base64
from pathlib import Path

import pytest

from ccinit.errors import ConfigError, FormatError
from guest_owner.sealed_log.key import LogKey, new_log_key, parse_log_key


def test_log_key_expands_its_seed_as_xwing_does() -> None:
    # First test vector of draft-connolly-cfrg-xwing-kem: seed and the beginning of pk.
    seed = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"
    public = LogKey(bytes.fromhex(seed)).public_bytes
    assert len(public) == 1216
    assert public.hex().startswith(
        "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"
    )


def test_log_key_written_and_parsed_is_the_same(tmp_path: Path) -> None:
    key = new_log_key()
    path = tmp_path / "log.key"
    key.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_log_key(path.read_bytes()).public_bytes == key.public_bytes
    assert base64.b64decode(key.public_text) == key.public_bytes
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        new_log_key().write(path)
    assert caught.value.reason == "log_key.exists"
    assert path.read_bytes() == before


def test_log_key_in_text_is_not_shown() -> None:
    seed = bytes(range(32))
    shown = repr(LogKey(seed))
    assert seed.hex() not in shown
    assert base64.b64encode(seed).decode() not in shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"not base64!", "log_key.form"),
        (base64.b64encode(bytes(31)), "log_key.seed"),
        (base64.b64encode(bytes(33)), "log_key.seed"),
        (b"A" * 257, "log_key.form"),
        (b"", "log_key.seed"),
    ],
)
def test_log_key_malformed_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_log_key(text)
    assert error.value.reason == reason
