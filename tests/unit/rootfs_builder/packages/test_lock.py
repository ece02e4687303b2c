"""The lock reads back, refuses what is not one, and explains differences."""

import pytest

from ccinit.errors import FormatError
from rootfs_builder.packages.lock import (
    LockedPackage,
    describe_differences,
    encode_apt_pins,
    encode_lock,
    encode_release_pin,
    find_replaced_content,
    parse_lock,
)
from tests.unit.rootfs_builder.packages.small_lock import LOCK, A, B, changed


def test_lock_reads_back_as_it_was() -> None:
    assert parse_lock(encode_lock(LOCK)) == LOCK
    assert parse_lock(encode_lock(LOCK).replace("\n", "\n\n# a comment\n")) == LOCK


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        (encode_lock(LOCK) + "c 1\n", "lock.line", "line 6 is neither"),
        (encode_lock(LOCK) + "date 2026-05-01T12:30:00Z\n", "lock.line", "line 6 is neither"),
        (encode_lock(LOCK) + f"c 1 {'c' * 63}\n", "lock.line", "line 6 is neither"),
        (encode_lock(LOCK) + f"a 1 {'c' * 64}\n", "lock.order", "not sorted"),
        (encode_lock(LOCK).replace("2026-05", "2026-15"), "lock.date", "line 3: no time in UTC"),
        (f"a 1 {'c' * 64}\n", "lock.date", "no line says the date"),
    ],
)
def test_text_that_is_not_a_lock_is_refused(text: str, reason: str, told: str) -> None:
    with pytest.raises(FormatError, match=told) as error:
        parse_lock(text)
    assert error.value.reason == reason


def test_pins_ask_for_each_version_even_if_it_is_older() -> None:
    assert encode_apt_pins(LOCK).split("\n\n") == [
        "Package: a\nPin: version 1:2.0-1\nPin-Priority: 1001",
        "Package: b\nPin: version 3~rc1\nPin-Priority: 1001\n",
    ]


def test_release_pin_beats_a_newer_version_and_yields_to_a_lock() -> None:
    pin = encode_release_pin("trixie")
    assert pin.splitlines()[:2] == ["Package: *", "Pin: release n=trixie"]
    assert 500 < int(pin.rpartition(": ")[2]) < 1001  # apt's default, and a lock's


def test_same_packages_have_no_differences() -> None:
    assert describe_differences((A, B), (B, A)) == ()


def test_each_kind_of_difference_is_described() -> None:
    added = LockedPackage(name="c", version="9", sha256="c" * 64)
    used = (changed(A, "1:2.1-1", "d"), added)
    assert describe_differences((A, B), used) == (
        "a: 1:2.0-1 -> 1:2.1-1",
        "b: gone, was 3~rc1",
        "c: new, 9",
    )


def test_what_became_older_is_marked() -> None:
    """As of an archive that answers with old lists, whose signature is good for ever."""
    used = (changed(A, "1:1.9-1", "d"), changed(B, "4", "e"))

    def is_newer(version: str, other: str) -> bool:
        return (version, other) == (A.version, "1:1.9-1")

    assert describe_differences((A, B), used, is_newer) == (
        "a: 1:2.0-1 -> 1:1.9-1 (older)",
        "b: 3~rc1 -> 4",
    )


def test_other_content_under_the_same_version_is_found() -> None:
    forged = changed(A, A.version, "f")
    said = f"a 1:2.0-1: expected {A.sha256}, found {forged.sha256}"
    assert find_replaced_content((A, B), (forged, B)) == (said,)
    assert describe_differences((A,), (forged,)) == ("a: 1:2.0-1, but other content",)


def test_other_content_under_another_version_is_no_replacement() -> None:
    assert find_replaced_content((A, B), (changed(A, "1:2.1-1", "d"), B)) == ()
