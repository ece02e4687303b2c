"""How texts are changed by fuzzers whose formats give no better idea."""

import random
from collections.abc import Callable, Sequence

from tests.fuzz.trials import Trials


def mutate_text(source: random.Random, seed: bytes, noise: Sequence[bytes]) -> bytes:
    """Insert some noise, cut, or change a byte, one to three times."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(3):
            case 0:
                data[spot:spot] = source.choice(noise)
            case 1:
                del data[spot : spot + source.randrange(1, 30)]
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def check_mutated(
    check: Callable[[bytes], object], seeds: Sequence[bytes], noise: Sequence[bytes], trials: Trials
) -> int:
    """Check the seeds, and then changes of them while there are trials; return how many."""
    for seed in seeds:
        check(seed)
    for source in trials:
        check(mutate_text(source, source.choice(seeds), noise))
    return trials.count
