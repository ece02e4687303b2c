"""Whole boots of the production image whose disks the host changes: what the pod and owner get.

A volume with a counter at the KBS, and a pod that ends for a disk fault. Three guests one after the
other on the same volume: an orderly one, although its owner copies files of the volume when it has
to end; one whose scratch is changed while its pod runs; and one that gets the volume as it was
after the first.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from ccinit.formats.kbs.rollback_counter import counter_uri
from ccinit.formats.planes.host_rpc import Code, Phase
from guest_owner.kbs.state.counters import Counters
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.launcher import GuestConfig
from tests.chain import pod, world
from tests.chain.life import Life, live, owner_address, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.show import PartyError, Show
from tests.chain.world import World, make_world
from tests.faults.plugin import FaultSeen
from tests.vm.direct_boot import DirectImage
from tests.vm.harness.boots import record_boot
from tests.vm.owner_copies import Copies, CopyEnd, copying, require_told

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(3600)]

BLOCK = 4096
_READ_ANEW = """
import importlib, pkgutil
taken, rest = [], 0
for line in open("/proc/meminfo"):
    if line.startswith("MemAvailable:"):
        rest = int(line.split()[1]) // 1024
for _ in range(max(0, rest - 40)):
    taken.append(bytearray(1 << 20))
del taken
for module in sorted(pkgutil.iter_modules(), key=lambda one: one.name):
    if module.name.isalpha() and module.name not in ("antigravity", "this", "idlelib"):
        try:
            importlib.import_module(module.name)
        except ImportError:
            pass
"""
"""Takes the memory that the page cache has, gives it back, and reads the image's files again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """One guest's life, from both sides, the counter after it, and the ends of copies."""

    life: Life
    log: OwnerLog
    counter: int
    copies: dict[str, CopyEnd]

    def events(self) -> list[str]:
        return [entry.text for entry in self.log.entries if entry.kind == "event"]


@pytest.fixture(scope="module")
def scene(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    assert prod_image  # built, and with it the UKI

    def count_and_stop(text: str, _canaries: pod.Canaries) -> str:
        text = text.replace("version = 1\n", 'version = 1\non_storage_error = "stop"\n', 1)
        return text.replace(
            'kind = "persistent"\n', 'kind = "persistent"\nrollback = "kbs-counter"\n'
        )

    with make_world(tmp_path_factory.mktemp("hostile"), Show(), edit_pod=count_and_stop) as made:
        made.owner.run("register", "rollback-counter", pod.POD, "data", "--state", made.owner.state)
        yield made


def run_guest(
    scene: World, name: str, *, is_hostile: bool = False, has_copies: bool = False
) -> Lived:
    config = scene.guest(name, uki=world.IMAGES / "ccinit-prod.efi")
    began, copies = time.monotonic(), dict[str, CopyEnd]()
    with ExitStack() as stack:
        under_way: list[Copies] = []

        def visit(guest: Guest) -> None:
            if has_copies:
                at = owner_address(config)
                under_way.append(stack.enter_context(copying(scene, at, "/data")))
            if is_hostile:
                change_scratch(config)
                read_anew(scene, config)
                wait_until_it_stops(guest)

        life = live(config, Show(), requests=1, visit=visit)
        for one in under_way:
            copies |= one.finish()
    record_boot(f"hostile storage: {name}", time.monotonic() - began)
    return Lived(
        copies=copies,
        life=life,
        log=read_log(scene.owner, write_stream(life, scene.folder / f"{name}.stream")),
        counter=Counters(scene.owner.state).read(counter_uri(pod.POD, "data")).value,
    )


def change_scratch(config: GuestConfig) -> None:
    """Flip a bit in every block that was written, while the guest has the disk."""
    (path,) = (disk.path for disk in config.disks if disk.serial == "scratch")
    with path.open("r+b", buffering=0) as file:
        end, size = 0, path.stat().st_size
        with contextlib.suppress(OSError):  # a hole up to the end
            while end < size:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                for offset in range(start, end, BLOCK):
                    byte = os.pread(file.fileno(), 1, offset)
                    os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), offset)


def read_anew(scene: World, config: GuestConfig) -> None:
    """Have the pod read what is no longer in memory; it may not live to say so."""
    words = (scene.canaries.container, "/usr/bin/python3", "-I", "-c", _READ_ANEW)
    with contextlib.suppress(PartyError):
        scene.owner.ask("exec", *words, at=owner_address(config))


def wait_until_it_stops(guest: Guest) -> None:
    with guest.client() as client:
        deadline = time.monotonic() + 120
        while client.state().phase <= Phase.RUN and time.monotonic() < deadline:
            time.sleep(0.5)


@pytest.fixture(scope="module")
def lives(scene: World) -> dict[str, Lived]:
    orderly = run_guest(scene, "orderly", has_copies=True)
    old = scene.folder / "volume.old"
    shutil.copyfile(scene.volume, old)
    changed = run_guest(scene, "changed", is_hostile=True)
    shutil.copyfile(old, scene.volume)
    return {"orderly": orderly, "changed": changed, "old": run_guest(scene, "old")}


def test_r44_volume_that_is_opened_and_closed_counts_twice(lives: dict[str, Lived]) -> None:
    orderly = lives["orderly"]
    assert orderly.life.last[1] is Code.OK
    assert orderly.log.is_whole, orderly.log.report()
    assert orderly.counter == 2
    assert "rollback counter of volume data is 2" in orderly.events()


def test_owner_is_told_that_copies_ended_with_their_pod(lives: dict[str, Lived]) -> None:
    """They had files of the volume open; that it was closed nevertheless is shown above."""
    require_told(lives["orderly"].copies)


def test_r45_pod_ends_when_its_scratch_is_changed(
    lives: dict[str, Lived], fault_seen: FaultSeen
) -> None:
    changed = lives["changed"]
    assert Phase.RUN in changed.life.reached
    assert changed.life.last[1] is Code.STORAGE
    assert changed.life.end is EndReason.RESET
    assert any(event.startswith("scratch.integrity: scratch: ") for event in changed.events())
    assert changed.log.report().startswith("RUN failed: scratch.integrity: ")
    fault_seen.host(changed.life.last[1].name, "a reset")
    fault_seen.owner("RUN failed: scratch.integrity")


def test_r44_volume_of_an_earlier_boot_is_refused(
    lives: dict[str, Lived], fault_seen: FaultSeen
) -> None:
    old = lives["old"]
    assert old.counter == lives["changed"].counter >= 3
    assert Phase.PULL not in old.life.reached
    assert old.life.last[1] is Code.STORAGE
    assert old.log.report().startswith("UNLOCK failed: volume.rollback: ")
    fault_seen.host(old.life.last[1].name)
    fault_seen.owner("UNLOCK failed: volume.rollback")
