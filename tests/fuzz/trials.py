"""How a fuzzer passes its time, and how it is run as a program."""

import random
import sys
import time
from collections.abc import Callable, Iterator

_FEW = 200


class Trials:
    """One trial after another until the time is over.

    Attributes:
        source: of chance; a round of the loop gets this very one.
        count: how many rounds went to their end.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self.source = random.Random(seed)  # noqa: S311  # mutations, not keys
        self.count = 0
        self._seconds = seconds

    def __iter__(self) -> Iterator[random.Random]:
        end = time.monotonic() + self._seconds
        while True:  # one at least, however busy the machine is
            yield self.source
            self.count += 1
            if time.monotonic() >= end:
                return

    def require(self, taken: int, *, one_in: int) -> None:
        """Check that inputs come through, so that what is behind the first checks is reached.

        Of a few trials, on a machine that has other work, nothing can be said.
        """
        assert self.count < _FEW or taken * one_in > self.count, (taken, self.count)


def run(main: Callable[[float, int], int]) -> None:
    """Run a fuzzer as a program whose words are [SECONDS [SEED]]; print how many trials."""
    seconds, seed = (*sys.argv[1:3], *("10", "0")[len(sys.argv) - 1 :])
    print(main(float(seconds), int(seed)))
