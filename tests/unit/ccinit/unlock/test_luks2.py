"""Opening a key slot, and the job that does it, on headers that the tests make."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from ccinit.errors import ConfigError, FormatError, VerificationError
from ccinit.formats.disk.luks2 import COPY_BYTES, SEAL_OFFSET, make_seal, parse_luks2_header
from ccinit.kernel.block import BlockDevice
from ccinit.secret import Secret
from ccinit.unlock import disk as disk_module
from ccinit.unlock import luks2
from ccinit.unlock.luks2 import (
    HEADER_FD,
    RELEASED_PIPE,
    VOLUME_KEY_FD,
    Luks2Reply,
    Luks2Request,
    copy_header,
    luks2_job,
    merge_stripes,
    open_key_slot,
    receive_volume_key,
)
from ccinit.unlock.volume_key import derive_seal_key
from tests.fakes.machine.luks2 import NULL_CIPHERS, PASSPHRASE, VOLUME_KEY, make_header, split

OTHER = PASSPHRASE[::-1]


class Channel:
    """What the job sees, without a child."""

    def __init__(self, fds: Mapping[str, int], released: bytes) -> None:
        self.fds = fds
        self._released = released

    def read_secret(self, name: str, /) -> Secret:
        assert name == RELEASED_PIPE
        return Secret(self._released)


@contextmanager
def run_job(header: bytes, released: bytes = PASSPHRASE, *, sealed: bool = False) -> Iterator[int]:
    """Run the job; yields the fd with the volume key."""
    memory = os.memfd_create(HEADER_FD)
    reader, writer = os.pipe()
    try:
        os.write(memory, header)
        channel = Channel({HEADER_FD: memory, VOLUME_KEY_FD: writer}, released)
        request = Luks2Request(pod="web", name="data", sealed=sealed)
        assert luks2_job(request, channel) == Luks2Reply()
        yield reader
    finally:
        for fd in (memory, reader, writer):
            os.close(fd)


def refusal(header: bytes, released: bytes = PASSPHRASE, *, sealed: bool = False) -> str:
    with (
        pytest.raises((VerificationError, FormatError)) as error,
        run_job(header, released, sealed=sealed),
    ):
        pass
    return error.value.reason


def seal(header: bytes, name: str = "data") -> bytes:
    with derive_seal_key(Secret(PASSPHRASE), "web", name) as key:
        return header[:SEAL_OFFSET] + make_seal(header, key.reveal())


def test_job_puts_the_volume_key_into_its_pipe() -> None:
    with run_job(make_header()) as fd:
        assert receive_volume_key(fd).reveal() == VOLUME_KEY


def test_sealed_header_opens() -> None:
    with run_job(seal(make_header()), sealed=True) as fd:
        assert receive_volume_key(fd).reveal() == VOLUME_KEY


def test_seal_is_compared_before_the_header_is_parsed() -> None:
    assert refusal(b"\0" * len(make_header()), sealed=True) == "luks2.seal"
    assert refusal(seal(make_header(), name="other"), sealed=True) == "luks2.seal"
    assert refusal(make_header(), sealed=True) == "luks2.seal"


def test_passphrase_that_does_not_fit_is_refused() -> None:
    assert refusal(make_header(), OTHER) == "luks2.key"


def test_passphrase_that_is_no_key_is_refused() -> None:
    assert refusal(make_header(), b"correct horse battery staple") == "volume.key"


def test_r38_slot_that_any_passphrase_opens_is_refused() -> None:
    edit, reason = NULL_CIPHERS["keyslot"]
    for released in (PASSPHRASE, OTHER):
        assert refusal(make_header(edit, null_slot=True), released) == reason


def test_r38_area_in_clear_under_the_right_name_does_not_open() -> None:
    assert refusal(make_header(null_slot=True)) == "luks2.key"


def test_digest_of_another_key_is_refused_and_that_key_wiped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Secret] = []

    def make(content: bytes) -> Secret:
        made.append(Secret(content))
        return made[-1]

    monkeypatch.setattr(luks2, "Secret", make)
    header = parse_luks2_header(make_header())
    area = bytes(len(header.area))
    changed = type(header)(slot=header.slot, check=header.check, digest=header.digest, area=area)
    with pytest.raises(VerificationError) as error:
        open_key_slot(changed, Secret(PASSPHRASE))
    assert error.value.reason == "luks2.key"
    assert [len(key) for key in made] == [0]
    assert len(open_key_slot(header, Secret(PASSPHRASE))) == len(VOLUME_KEY)


def test_stripes_are_merged_to_what_was_split() -> None:
    key = hashlib.sha512(b"key").digest()
    assert merge_stripes(split(key)) == key


@pytest.mark.parametrize("content", [b"", bytes(63), bytes(65)])
def test_pipe_with_something_else_than_a_key_is_refused_and_not_waited_for(content: bytes) -> None:
    reader, writer = os.pipe()  # the writing end stays open, as it does for PID 1
    if content:
        os.write(writer, content)
    with pytest.raises(FormatError) as error:
        receive_volume_key(reader)
    assert error.value.reason == "luks2.volume_key"
    for fd in (reader, writer):
        os.close(fd)


@pytest.mark.parametrize(
    ("size_bytes", "read_only", "reason"),
    [(64 << 20, True, "disk.read_only"), (16 << 20, False, "disk.size")],
)
def test_r36_disk_that_cannot_be_a_volume_is_refused_unread(
    size_bytes: int, reason: str, *, read_only: bool
) -> None:
    disk = BlockDevice(
        name="absent",
        number="254:0",
        size_bytes=size_bytes,
        read_only=read_only,
        serial="",
        holders=(),
    )
    with pytest.raises(ConfigError) as error:
        copy_header("data", disk)
    assert error.value.reason == reason


def test_disk_whose_size_changes_before_its_header_is_read_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size_bytes = 64 << 20
    disk = BlockDevice(
        name="vdb", number="254:16", size_bytes=size_bytes, read_only=False, serial="", holders=()
    )
    monkeypatch.setattr(luks2, "read_direct", lambda _node, _offset, length: bytes(length))
    monkeypatch.setattr(disk_module, "read_size_bytes", lambda _node: size_bytes)
    assert copy_header("data", disk) == bytes(COPY_BYTES)
    monkeypatch.setattr(disk_module, "read_size_bytes", lambda _node: size_bytes - 4096)
    with pytest.raises(VerificationError) as error:
        copy_header("data", disk)
    assert error.value.reason == "disk.changed"
