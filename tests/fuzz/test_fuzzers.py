"""Every fuzzer: a second from a fixed seed in each run, a minute from a new one in the long run."""

import secrets
from collections.abc import Callable
from importlib import import_module  # noqa: TID251  # the folder is the list
from pathlib import Path

import pytest

FUZZERS = [
    import_module(f"tests.fuzz.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("fuzz_*.py"))
]
each_fuzzer = pytest.mark.parametrize(
    "fuzz",
    [module.main for module in FUZZERS],
    ids=[module.__name__.rpartition("fuzz_")[2] for module in FUZZERS],
)


def test_every_fuzzer_states_its_invariant() -> None:
    assert FUZZERS
    for module in FUZZERS:
        assert (module.__doc__ or "").startswith("Invariant")


@each_fuzzer
def test_fuzzer_finds_nothing_from_a_fixed_seed(fuzz: Callable[[float, int], int]) -> None:
    # A finding raises; the number is how much was tried.
    assert fuzz(1, 7) > 0


@pytest.mark.long
@each_fuzzer
def test_fuzzer_finds_nothing_in_a_minute(fuzz: Callable[[float, int], int]) -> None:
    seed = secrets.randbelow(1 << 32)
    print(f"seed {seed}")
    assert fuzz(60, seed) > 0
