"""Lists need a reason for every entry, and the repository's own lists have them."""

from pathlib import Path

import pytest

from ccinit.errors import FormatError
from rootfs_builder.file_list import parse_listed, read_listed

LISTS = sorted(Path("rootfs-builder/mkosi").glob("*.list"))


def test_entry_has_name_options_and_reason() -> None:
    (entry,) = parse_listed("# heading\n\nbrd rd_nr=4 max_part=0 # holds tags\n", "x")
    assert (entry.name, entry.options, entry.reason) == (
        "brd",
        ("rd_nr=4", "max_part=0"),
        "holds tags",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [("loop\n", "list.reason"), ("loop # \n", "list.reason"), ("a # 1\na # 2\n", "list.twice")],
)
def test_list_with_an_entry_that_nobody_explains_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_listed(text, "x")
    assert error.value.reason == reason


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_list_of_the_repository_is_well_formed(path: Path) -> None:
    read_listed(path)


def test_repository_has_all_lists() -> None:
    assert {path.stem for path in LISTS} >= {"modules", "programs", "python", "tools"}
