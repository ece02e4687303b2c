"""What the demo's parties say while they set up the benchmarks."""

from tests.bench.measurement import Bench
from tests.chain.show import Show


class Told(Show):
    """The demo's words as lines of progress."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def say(self, party: str, text: str) -> None:
        self._bench.say(f"{party}: {text}")

    def title(self, text: str) -> None:
        """Leave headings out."""
