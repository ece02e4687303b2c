"""The rollback anchor: which two numbers belong together, and the file of one of them."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, KernelError, VerificationError
from ccinit.unlock.rollback import FILE, SPARE, read_counter, verify_counter, write_counter
from tests.fakes.machine.scarcity import count_descriptors


@pytest.mark.parametrize(("found", "anchored"), [(0, 0), (1, 0), (7, 7), (8, 7)])
def test_volume_of_now_or_one_ahead_is_accepted(found: int, anchored: int) -> None:
    verify_counter("data", found, anchored)


@pytest.mark.parametrize(
    ("found", "anchored", "reason"),
    [
        (0, 1, "volume.rollback"),
        (6, 7, "volume.rollback"),
        (1, 700, "volume.rollback"),
        (9, 7, "volume.counter_ahead"),
        (2, 0, "volume.counter_ahead"),
    ],
)
def test_any_other_age_is_refused(found: int, anchored: int, reason: str) -> None:
    with pytest.raises(VerificationError) as error:
        verify_counter("data", found, anchored)
    assert error.value.reason == reason


def test_counter_is_read_as_it_was_written(tmp_path: Path) -> None:
    before = count_descriptors()
    assert read_counter(str(tmp_path)) == 0
    for counter in (1, 2, 2**53 - 2):
        write_counter(str(tmp_path), counter)
        assert read_counter(str(tmp_path)) == counter
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, SPARE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert count_descriptors() == before


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"0\n",
        b"-1\n",
        b"1x\n",
        b"\xb2\n",
        b"9007199254740991\n",
        b"1" * 40,
        b"7".zfill(33),
    ],
)
def test_file_with_anything_else_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(CcinitError) as error:
        read_counter(str(tmp_path))
    assert error.value.reason == "volume.counter"


def test_file_as_long_as_the_cap_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"7".zfill(32))
    assert read_counter(str(tmp_path)) == 7


def test_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"7\n")
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelError) as error:
        read_counter(str(tmp_path))
    assert error.value.reason == "kernel.open"


def test_counter_that_cannot_be_read_or_written_is_an_error_and_no_zero(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    for action, reason in (
        (lambda: read_counter(str(tmp_path)), "kernel.read"),
        (lambda: write_counter(str(tmp_path), 1), "kernel.write"),
        (lambda: write_counter(str(tmp_path / "elsewhere"), 1), "kernel.write"),
    ):
        with pytest.raises(KernelError) as error:
            action()
        assert error.value.reason == reason


def test_counter_is_on_the_disk_before_its_name_is_and_the_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[list[str]] = []

    def fsync(fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        flushed.append([name, *sorted(path.name for path in tmp_path.iterdir())])

    monkeypatch.setattr(os, "fsync", fsync)
    write_counter(str(tmp_path), 1)
    assert flushed == [[SPARE, SPARE], [tmp_path.name, FILE], [SPARE, FILE, SPARE]]


def test_write_cut_short_leaves_the_old_counter(tmp_path: Path) -> None:
    write_counter(str(tmp_path), 7)
    (tmp_path / SPARE).write_bytes(b"8")
    assert read_counter(str(tmp_path)) == 7
    write_counter(str(tmp_path), 8)
    assert read_counter(str(tmp_path)) == 8


def test_spare_that_is_longer_than_the_number_leaves_nothing_behind_it(tmp_path: Path) -> None:
    (tmp_path / SPARE).write_bytes(b"9" * 19)
    write_counter(str(tmp_path), 8)
    assert (tmp_path / FILE).read_bytes() == b"8\n"


def test_number_of_which_only_a_part_was_taken_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_counter(str(tmp_path), 7)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda _fd, data: len(data) - 1)
        with pytest.raises(KernelError) as error:
            write_counter(str(tmp_path), 8)
    assert error.value.reason == "kernel.write"
    assert read_counter(str(tmp_path)) == 7
