"""What a guest takes of its memory at LISTEN, for both carriers, against a busybox initrd.

Memory taken is MemTotal minus MemAvailable (proc(5)). So page cache that the kernel could free at
once does not count, while the root that carrier `ram` keeps in memory does. The busybox guest has
the same kernel with the same words, loads no module and does nothing else.

Goals: 25 MB above it with carrier `disk`, 45 MB with `ram`, whose root of some 24 MB stays in
memory. As a ratio that depends on what the kernel itself takes, which the busybox guest shows.
"""

import shutil
import statistics
from collections.abc import Mapping
from typing import Final

from ccinit.formats.cmdline import Carrier
from host_runtime.launch.launcher import GuestConfig
from tests.bench.marked_guests import make_marked_guests
from tests.bench.marks import boot_until
from tests.bench.measurement import Bench, Row, Side, compare, interleave

ROUNDS: Final = 5
BUDGET_MB: Final[Mapping[Carrier, float]] = {Carrier.DISK: 25.0, Carrier.RAM: 45.0}
PEER: Final = "busybox initrd, same kernel"
_KIB_PER_MB: Final = 1e6 / 1024


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure all guests in the same rounds.

    Raises:
        BenchError: a guest did not get where it had to.
    """
    guests = make_marked_guests(bench)
    sides: dict[str, Side[float]] = {
        "peer": lambda: _taken_mb(guests.busybox, "memory", 0),
        **{carrier.value: _side(guests.ours[carrier]) for carrier in Carrier},
    }
    seen = interleave(sides, bench.rounds(ROUNDS), bench.say, warm_ups=0)
    peer = statistics.median(seen["peer"])
    return tuple(
        compare(
            f"memory in use at LISTEN, {carrier}",
            "MB",
            ours=seen[carrier],
            peer=seen["peer"],
            peer_name=PEER,
            goal=(peer + BUDGET_MB[carrier]) / peer,
        )
        for carrier in Carrier
    )


def _side(config: GuestConfig) -> Side[float]:
    return lambda: _taken_mb(config, "listen", 1)


def _taken_mb(config: GuestConfig, last: str, position: int) -> float:
    """Return a guest's total memory minus what is available, from a mark's numbers."""
    try:
        total, available = boot_until(config, last)[last].numbers[position : position + 2]
    finally:
        shutil.rmtree(config.folder, ignore_errors=True)
    return (total - available) / _KIB_PER_MB
