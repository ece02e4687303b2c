import pytest

from tests.bench.measurement import BenchError, compare, interleave


def test_interleave_takes_turns_and_forgets_the_warm_up() -> None:
    calls: list[str] = []

    def side(name: str) -> int:
        calls.append(name)
        return len(calls)

    said: list[str] = []
    seen = interleave({"a": lambda: side("a"), "b": lambda: side("b")}, 2, said.append)
    assert calls == ["a", "b"] * 3
    assert seen == {"a": (3, 5), "b": (4, 6)}
    assert said == ["warm-up", "round 1 of 2", "round 2 of 2"]


def test_interleave_without_warm_up_counts_every_round() -> None:
    seen = interleave({"a": lambda: 1}, 2, lambda _text: None, warm_ups=0)
    assert seen == {"a": (1, 1)}


def test_compare_takes_medians_and_the_spread_of_the_rounds() -> None:
    row = compare("name", "s", ours=(1.0, 9.0, 2.0), peer=(2.0, 10.0, 4.0), peer_name="p", goal=0.5)
    assert (row.ours, row.peer, row.ratio) == (2.0, 4.0, 0.5)
    assert row.met
    assert row.runs == 3
    assert row.spread == pytest.approx((0.9 - 0.5) / 0.5)
    assert row.floor is None


def test_compare_above_goal_is_not_met() -> None:
    row = compare("name", "s", ours=(3.0,), peer=(2.0,), peer_name="p", goal=1.4, floor=(1.0,))
    assert not row.met
    assert row.floor == 1.0


@pytest.mark.parametrize(
    ("ours", "peer"), [((), ()), ((1.0,), (1.0, 2.0)), ((1.0,), (0.0,)), ((0.0,), (1.0,))]
)
def test_compare_without_a_pair_of_values_refuses(
    ours: tuple[float, ...], peer: tuple[float, ...]
) -> None:
    with pytest.raises(BenchError):
        compare("name", "s", ours=ours, peer=peer, peer_name="p", goal=1.0)
