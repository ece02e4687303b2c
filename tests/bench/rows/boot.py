"""Boots: how long each phase takes, against the smallest guest that says one line in Python.

Three boots a round, each on the same kind of machine (1 CPU, 512 MiB, the accelerator that works
here):

    peer     `bare_guest`: kernel, initrd, interpreter, one line; power-on to the line
    direct   our kernel, initrd and root disk without firmware; power-on to the reply to a hello
    whole    UKI through OVMF with a vTPM, KBS, registry, scratch and a new volume, as the demo does
             it; every phase as the host sees it begin, by `wait`

The peer is a yardstick, not a rival: it does none of the work. As it scales with machine and
accelerator, the ratios can be compared between machines where milliseconds cannot. A phase that is
over before the host's next `wait` is counted with the one before it (RANDOM usually with NET).

Goals, as multiples of that yardstick:

* direct boot to hello 2.5: the kernel's share is equal; then come some thirty modules, verity, and
  PID 1's imports;
* through firmware to hello 6: OVMF and the stub, TPM measurements included, take as long as three
  bare boots;
* phases 1 each, since each starts a few interpreters, which is most of the yardstick; NET half of
  that;
* ATTEST 2, for two handshakes with pinned TLS and the evidence;
* PULL 4, for four children and 150 MB that are inflated, hashed twice and encrypted, in emulation
  if there is no KVM;
* the whole boot: their sum;
* memory of PID 1 at RUN 4: ciphers are loaded with the first key (DESIGN section 9: 19.6 MB against
  7), and half as much again is for everything else that was imported by then.
"""

import shutil
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from ccinit.formats.planes.host_rpc import Phase
from host_runtime.launch.launcher import GuestConfig, boot_guest
from host_runtime.machine.accelerator import choose_accelerator
from host_runtime.machine.disks import create_sparse_disk
from host_runtime.machine.qemu import DirectBoot, Disk
from measured_boot.tpm.direct_line import line_of_kernel
from tests.bench.bare_guest import COMMAND_LINE, boot_bare, write_bare_initrd
from tests.bench.guest_root import GuestRoot, open_guest_root
from tests.bench.interpreter import start_bare
from tests.bench.measurement import Bench, BenchError, Row, compare, interleave
from tests.bench.told import Told
from tests.chain import pod
from tests.chain.life import Life, live, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.show import PartyError
from tests.chain.world import World, make_world

ROUNDS = 3
HELLO = "hello"
WHOLE = "whole"
PSS = "pss"
PHASE_GOALS: Mapping[Phase, float] = {
    Phase.CONFIG: 1.0,
    Phase.NET: 0.5,
    Phase.ATTEST: 2.0,
    Phase.UNLOCK: 1.0,
    Phase.PULL: 4.0,
    Phase.START: 1.0,
}
DIRECT_GOAL = 2.5
HELLO_GOAL = 6.0
WHOLE_GOAL = HELLO_GOAL + sum(PHASE_GOALS.values())
MEMORY_GOAL = 4.0
PEER = "bare Python guest, first line"
_HELLO_SECONDS = 180.0
_MIB = 1 << 20

Sample = Mapping[str, float]


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure all boots in the same rounds.

    Raises:
        BenchError: a guest did not get where it had to.
    """
    root = open_guest_root(bench)
    try:
        with make_world(bench.work, Told(bench)) as world:
            boots = _Boots(bench, root, world)
            boots.bare()  # else its first boot that counts would be the one that reads QEMU
            seen = interleave(
                {"peer": boots.bare, "direct": boots.direct, "whole": boots.whole},
                bench.rounds(ROUNDS),
                bench.say,
                warm_ups=0,
            )
    except PartyError as error:
        raise BenchError(f"{error}; {error.remedy}") from error
    bare = [start_bare(root).pss_bytes / _MIB for _ in seen["whole"]]
    return (*_rows(seen), _memory(seen["whole"], bare))


def _rows(seen: Mapping[str, tuple[Sample, ...]]) -> list[Row]:
    peer = [sample[HELLO] for sample in seen["peer"]]

    def row(name: str, side: str, key: str, goal: float) -> Row:
        ours = [sample[key] for sample in seen[side]]
        return compare(name, "ms", ours=ours, peer=peer, peer_name=PEER, goal=goal)

    return [
        row("direct boot: power-on to hello", "direct", HELLO, DIRECT_GOAL),
        row("UKI boot: power-on to hello", "whole", HELLO, HELLO_GOAL),
        *(
            row(f"UKI boot: {phase.name}", "whole", phase.name, goal)
            for phase, goal in PHASE_GOALS.items()
        ),
        row("UKI boot: power-on to RUN", "whole", WHOLE, WHOLE_GOAL),
    ]


def _memory(whole: tuple[Sample, ...], bare: list[float]) -> Row:
    return compare(
        "PID 1: PSS at RUN, in the guest",
        "MiB",
        ours=[sample[PSS] for sample in whole],
        peer=bare,
        peer_name="python3.13 -I -S, bare, natively",
        goal=MEMORY_GOAL,
    )


class _Boots:
    """Each kind of boot, once per call."""

    def __init__(self, bench: Bench, root: GuestRoot, world: World) -> None:
        # What was just registered with the KBS, whatever is built while this runs.
        self._images = Path(shutil.copytree(bench.images, bench.work / "image"))
        self._folder = bench.work
        self._world = world
        self._show = Told(bench)
        self._initrd = write_bare_initrd(root, bench.work, bench.work / "bare.initrd")
        self._boots = 0

    @property
    def _kernel(self) -> Path:
        return self._images / "ccinit-prod.vmlinuz"

    def bare(self) -> Sample:
        """The yardstick."""
        config = self._plain(self._initrd, COMMAND_LINE, ())
        milliseconds = boot_bare(config)
        shutil.rmtree(config.folder)
        return {HELLO: milliseconds}

    def direct(self) -> Sample:
        """Ours without firmware; ends at the hello, since there is no initdata."""
        stem = self._images / "ccinit-prod"
        config = self._plain(
            stem.with_suffix(".direct.initrd"),
            line_of_kernel(stem.with_suffix(".direct.cmdline").read_text()),
            (Disk(path=stem.with_suffix(".root.erofs"), serial="root", is_read_only=True),),
        )
        with boot_guest(config) as guest:
            guest.wait_for_hello(_HELLO_SECONDS)
            milliseconds = (time.monotonic() - guest.started_at) * 1000
        shutil.rmtree(config.folder)
        return {HELLO: milliseconds}

    def whole(self) -> Sample:
        """Ours as the demo boots it."""
        self._boots += 1
        name = f"whole{self._boots}"
        self._world.volume.unlink()
        create_sparse_disk(self._world.volume, pod.VOLUME_BYTES)
        config = self._world.guest(name, uki=self._images / "ccinit-prod.efi")
        life = live(config, self._show)
        phases = split_phases(life)
        stream = write_stream(life, config.folder.with_name(f"{name}.stream"))
        log = read_log(self._world.owner, stream)
        return {**add_unseen(phases, log), PSS: log.pid1_figures()["pss_bytes"] / _MIB}

    def _plain(self, initrd: Path, command_line: str, disks: tuple[Disk, ...]) -> GuestConfig:
        return GuestConfig(
            tools=self._world.tools,
            folder=self._folder / "plain",
            boot=DirectBoot(kernel=self._kernel, initrd=initrd, command_line=command_line),
            accelerator=choose_accelerator(self._world.tools),
            disks=disks,
        )


def split_phases(life: Life) -> Sample:
    """Return the milliseconds of hello, each phase and the whole, as the host saw them.

    Raises:
        BenchError: the guest did not reach RUN.
    """
    began = {phase: when for when, phase, _ in reversed(life.seen)}
    if life.hello_ms is None or Phase.RUN not in began:
        phase, code = life.last
        raise BenchError(f"a guest ended in {phase.name} with code {code.name}")
    began[Phase.CONFIG] = life.hello_ms  # it was there before the host could ask
    order = [phase for phase in sorted(began) if Phase.CONFIG <= phase <= Phase.RUN]
    took: dict[str, float] = {}
    for phase, following in pairwise(order):
        name = Phase.NET.name if phase is Phase.RANDOM else phase.name
        took[name] = took.get(name, 0.0) + began[following] - began[phase]
    return {**took, HELLO: life.hello_ms, WHOLE: began[Phase.RUN]}


def add_unseen(phases: Sample, log: OwnerLog) -> Sample:
    """Return the phases with those that the host has missed, as the guest's log has them.

    Raises:
        PartyError: nor has the log, which begins to say so after ATTEST.
    """
    missed = [phase for phase in PHASE_GOALS if phase.name not in phases]
    return {**phases, **{phase.name: float(log.took_ms(phase)) for phase in missed}}
