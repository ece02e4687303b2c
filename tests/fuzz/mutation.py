"""How texts are changed by fuzzers whose formats give no better idea."""

import json
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
                end = spot + source.randrange(1, 30) if source.randrange(8) else len(data)
                del data[spot:end]
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def mutate_json(source: random.Random, seed: bytes, noise: Sequence[bytes]) -> bytes:
    """Put another value somewhere into a JSON text, mostly of another type.

    So a reader's checks of types are reached, which hardly any change of letters does. A text that
    is no JSON is changed as one.
    """
    try:
        value = json.loads(seed)
    except (ValueError, RecursionError):
        return mutate_text(source, seed, noise)
    holder = value
    while isinstance(holder, (dict, list)) and holder:
        key = source.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if not isinstance(inner, (dict, list)) or source.random() < 0.3:
            holder[key] = source.choice((None, [], {}, -1, 2**60, True, "x", [inner] * 200, "\0"))
            break
        holder = inner
    return json.dumps(value).encode()


def check_mutated(
    check: Callable[[bytes], object], seeds: Sequence[bytes], noise: Sequence[bytes], trials: Trials
) -> int:
    """Check the seeds, and then changes of them while there are trials; return how many."""
    for seed in seeds:
        check(seed)
    for source in trials:
        mutate = source.choice((mutate_text, mutate_json))
        check(mutate(source, source.choice(seeds), noise))
    return trials.count
