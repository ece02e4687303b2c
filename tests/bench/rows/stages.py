"""A boot by its stages, for both carriers, against two of mkosi's systems with systemd.

All machines are alike (1 CPU, 512 MiB, the accelerator that works here, no firmware between QEMU
and the kernel), and all guests have one kernel, its words on the command line and the same first
two lines of shell, which mark where user space begins (`marked_guests`). Ours ends where PID 1
listens to the host, a peer's where its first ordinary service runs.

    firmware   power-on to the kernel's first instruction, QEMU's loading of the files included
    kernel     from there to the first instruction of user space, unpacking the initrd included
    stage 0    to the exec of the root's PID 1: modules, root, switch
    PID 1      to LISTEN
    user space both of these

The first peer is what mkosi makes of systemd, its own initrd and a disk with a dm-verity root. It
ends as far as ours in that its root is verified; it has not loaded what ours has for disks, network
and pods. The second one is systemd in the least that boots, and has no root to verify: what is left
there is systemd itself.

Goals, as fractions of the same stage of the first peer, and for stage 0 and PID 1 of its whole user
space. User space: a quarter, which is the promise. Stage 0 three fifths of that, PID 1 the rest:
stage 0 starts an interpreter and loads some thirty modules, PID 1 starts another and imports what a
host plane needs. Firmware and kernel 1.1: the files of both are of similar size, and what takes
time there is not ours. User space has the same goal against the second peer, which has far less
to do.
"""

import shutil
from collections.abc import Mapping
from typing import Final

from ccinit.formats.cmdline import Carrier
from host_runtime.launch.launcher import GuestConfig
from tests.bench.marked_guests import START, make_marked_guests
from tests.bench.marks import Mark, boot_until
from tests.bench.measurement import Bench, Row, Side, compare, interleave

ROUNDS: Final = 5
VERITY: Final = "mkosi, systemd with a verity root"
SMALLEST: Final = "mkosi, systemd alone"
USER_SPACE: Final = "user space"
GOALS: Final[Mapping[str, float]] = {
    "firmware": 1.1,
    "kernel": 1.1,
    "stage 0": 0.15,
    "PID 1": 0.10,
    USER_SPACE: 0.25,
}
GOALS_BESIDE_SMALLEST: Final[Mapping[str, float]] = {USER_SPACE: GOALS[USER_SPACE]}

Sample = Mapping[str, float]


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure all boots in the same rounds.

    Raises:
        BenchError: a guest did not get where it had to.
    """
    guests = make_marked_guests(bench)
    peers = {VERITY: guests.verity, SMALLEST: guests.smallest}
    sides: dict[str, Side[Sample]] = {
        **{name: _peer_side(config) for name, config in peers.items()},
        **{carrier.value: _side(config) for carrier, config in guests.ours.items()},
    }
    seen = interleave(sides, bench.rounds(ROUNDS), bench.say)
    return tuple(
        compare(
            f"boot, {carrier}: {stage}",
            "ms",
            ours=[sample[stage] for sample in seen[carrier]],
            peer=[sample.get(stage, sample[USER_SPACE]) for sample in seen[peer]],
            peer_name=peer,
            goal=goal,
        )
        for carrier in Carrier
        for peer, goals in ((VERITY, GOALS), (SMALLEST, GOALS_BESIDE_SMALLEST))
        for stage, goal in goals.items()
    )


def split_ours(marks: Mapping[str, Mark]) -> Sample:
    """Return the milliseconds of each stage from the marks of our guest."""
    start, listen = marks[START], marks["listen"]
    executed_us = marks["pid1"].numbers[1]
    clock = _GuestClock(start, listen.milliseconds, listen.numbers[0] / 1e6)
    executed = clock.on_host(executed_us / 1e6)
    return {
        "firmware": clock.on_host(0.0),
        "kernel": start.milliseconds - clock.on_host(0.0),
        "stage 0": executed - start.milliseconds,
        "PID 1": listen.milliseconds - executed,
        USER_SPACE: listen.milliseconds - start.milliseconds,
    }


def split_peer(marks: Mapping[str, Mark]) -> Sample:
    """Return the milliseconds of each stage from the marks of the peer."""
    start, service = marks[START], marks["service"]
    clock = _GuestClock(start, service.milliseconds, service.numbers[0])
    return {
        "firmware": clock.on_host(0.0),
        "kernel": start.milliseconds - clock.on_host(0.0),
        USER_SPACE: service.milliseconds - start.milliseconds,
    }


class _GuestClock:
    """Converts the guest's times to the host's, by a first and a last mark that both have timed.

    A guest calibrates its clock by the machine's timer, which a busy host serves late. So the clock
    may be too fast or too slow, but it runs evenly.
    """

    def __init__(self, start: Mark, last_ms: float, last_s: float) -> None:
        self._start = start
        self._scale = (last_ms - start.milliseconds) / (last_s - start.numbers[0])

    def on_host(self, guest_s: float) -> float:
        """Return the milliseconds since power-on at which the guest's clock showed this."""
        return self._start.milliseconds + (guest_s - self._start.numbers[0]) * self._scale


def _side(config: GuestConfig) -> Side[Sample]:
    return lambda: split_ours(_boot(config, "listen"))


def _peer_side(config: GuestConfig) -> Side[Sample]:
    return lambda: split_peer(_boot(config, "service"))


def _boot(config: GuestConfig, last: str) -> Mapping[str, Mark]:
    try:
        return boot_until(config, last)
    finally:
        shutil.rmtree(config.folder, ignore_errors=True)
