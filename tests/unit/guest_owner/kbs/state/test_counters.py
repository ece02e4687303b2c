"""Counters move by one, for one boot, and only if they were registered."""

from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import MAX_INTEGER
from ccinit.formats.kbs.rollback_counter import CounterAdvance, counter_uri
from guest_owner.kbs.state.counters import Counter, Counters

URI = counter_uri("shop", "data")
ONE, OTHER = b"1" * 16, b"2" * 16


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    made = Counters(tmp_path)
    made.begin(URI)
    return made


def refused(counters: Counters, to: int, holder: bytes = ONE) -> str:
    with pytest.raises(CcinitError) as error:
        counters.advance(URI, CounterAdvance(to=to, holder=holder))
    return error.value.reason


def test_counter_moves_by_one(counters: Counters) -> None:
    assert counters.read(URI) == Counter(value=0)
    for to in (1, 2, 3):
        assert counters.advance(URI, CounterAdvance(to=to, holder=ONE)).value == to
    assert counters.read(URI) == Counter(value=3, holder=ONE)


def test_counter_moves_by_nothing_else(counters: Counters) -> None:
    counters.set(URI, 7)
    assert [refused(counters, to) for to in (1, 6, 7, 9)] == ["counter.taken"] * 4
    assert counters.read(URI) == Counter(value=7)


def test_refused_move_says_where_the_counter_is_and_should_have_been(counters: Counters) -> None:
    counters.set(URI, 7)
    with pytest.raises(CcinitError) as error:
        counters.advance(URI, CounterAdvance(to=6, holder=ONE))
    assert error.value.detail == "it is at 7, not 5"


def test_counter_is_set_only_to_what_it_can_advance_from(counters: Counters) -> None:
    for value in (0, MAX_INTEGER - 1):
        counters.set(URI, value)
        assert counters.read(URI) == Counter(value=value)
    for value in (-1, MAX_INTEGER):
        with pytest.raises(CcinitError) as error:
            counters.set(URI, value)
        assert error.value.reason == "counter.value"
    assert counters.read(URI) == Counter(value=MAX_INTEGER - 1)


def test_counter_that_the_owner_sets_is_of_no_boot(counters: Counters) -> None:
    """To the boot that moved it there before, too, which may have a newer volume."""
    counters.advance(URI, CounterAdvance(to=1, holder=ONE))
    counters.set(URI, 1)
    assert counters.read(URI) == Counter(value=1)
    assert refused(counters, 1) == "counter.taken"
    assert counters.advance(URI, CounterAdvance(to=2, holder=ONE)).value == 2


def test_second_boot_on_a_copy_is_refused_and_a_repeated_wish_is_not(counters: Counters) -> None:
    asked = CounterAdvance(to=1, holder=ONE)
    assert counters.advance(URI, asked) == counters.advance(URI, asked)
    assert refused(counters, 1, OTHER) == "counter.taken"


def test_counter_that_nobody_registered_is_absent(tmp_path: Path) -> None:
    assert refused(Counters(tmp_path), 1) == "counter.absent"


def test_counter_of_a_name_that_is_a_path_is_refused(counters: Counters) -> None:
    with pytest.raises(CcinitError) as error:
        counters.begin(counter_uri("..", ".."))
    assert error.value.reason == "counter.path"


def test_counter_begins_once(counters: Counters) -> None:
    counters.advance(URI, CounterAdvance(to=1, holder=ONE))
    with pytest.raises(CcinitError) as error:
        counters.begin(URI)
    assert error.value.reason == "counter.exists"
    assert counters.read(URI) == Counter(value=1, holder=ONE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "counter.json"),
        (b'{"version": 1, "counter": 1, "counter": 2, "holder": ""}', "counter.duplicate"),
        (b"{}", "counter.version"),
        (b'{"version": 1, "counter": -1, "holder": ""}', "counter.counter"),
        (b'{"version": 1, "counter": 1, "holder": "!"}', "counter.holder"),
        (b'{"version": 1, "counter": 1, "holder": "", "x": 1}', "counter.unknown"),
    ],
)
def test_damaged_file_is_an_error_and_no_zero(
    counters: Counters, tmp_path: Path, text: bytes, reason: str
) -> None:
    path = tmp_path / "rollback-counters" / "shop" / "data.json"
    path.write_bytes(b'{"version": 1, "counter": 1, "holder": ""}')
    assert counters.read(URI) == Counter(value=1)
    path.write_bytes(text)
    with pytest.raises(CcinitError) as error:
        counters.read(URI)
    assert error.value.reason == reason
    assert error.value.detail.startswith(f"{path}: ")


def test_check_reads_counters_and_not_what_lies_beside_them(
    counters: Counters, tmp_path: Path
) -> None:
    path = tmp_path / "rollback-counters" / "shop" / "data.json"
    for beside in (
        path.with_name("data.json~"),
        path.with_name(".new-0123"),
        path.parent / "notes",
    ):
        beside.write_text("no counter")
    counters.check()
    path.write_text('{"version": 2}')
    with pytest.raises(CcinitError) as error:
        counters.check()
    assert (error.value.reason, str(path) in error.value.detail) == ("counter.version", True)
