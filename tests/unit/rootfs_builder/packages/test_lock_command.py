"""What a renewed lock changes is said in full."""

import pytest

from rootfs_builder.packages.lock_command import (
    describe_wheel_differences,
    print_differences,
    print_passed_over,
)
from rootfs_builder.packages.wheels import Requirement


def requirement(name: str, version: str, digit: str = "a") -> Requirement:
    return Requirement(name=name, version=version, sha256=frozenset({digit * 64}))


def test_wheels_that_came_went_or_changed_are_named() -> None:
    old = (requirement("a", "1"), requirement("b", "1"), requirement("same", "1"))
    new = (requirement("a", "2"), requirement("c", "1"), requirement("same", "1"))
    assert describe_wheel_differences(old, new) == (
        "a: 1 -> 2",
        "b: 1 -> absent",
        "c: absent -> 1",
    )


def test_other_file_of_the_same_version_is_a_difference() -> None:
    old, new = (requirement("a", "1", "a"),), (requirement("a", "1", "b"),)
    assert describe_wheel_differences(old, new) == ("a: 1 -> 1",)


def test_summary_counts_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    print_differences("file", ("a: 1 -> 2",))
    print_differences("other", ())
    assert capsys.readouterr().out == "file: 1 changes\n  a: 1 -> 2\nother: no changes\n"


def test_versions_passed_over_are_counted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_passed_over(("a: 1; trixie-security has 2",))
    print_passed_over(())
    assert capsys.readouterr().out == (
        "point release preferred over newer versions: 1\n"
        "  a: 1; trixie-security has 2\n"
        "point release preferred over newer versions: none\n"
    )
