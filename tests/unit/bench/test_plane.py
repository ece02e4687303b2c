import pytest

from tests.bench.rows.plane import memory_row


@pytest.mark.parametrize(("ours", "met"), [(22_000_000, True), (22_000_001, False)])
def test_memory_is_judged_by_its_size_whatever_the_interpreter_has(ours: int, *, met: bool) -> None:
    for bare in (7_000_000, 8_000_000):
        row = memory_row("any", ours, bare, 22_000_000)
        assert row.met == met
        assert row.ratio == pytest.approx(ours / bare)
