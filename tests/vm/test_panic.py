"""R90: a host that makes the kernel of a running production guest panic learns nothing by it.

Memory is not encrypted in an emulated machine, so the host can overwrite what the kernel runs.
What that had said before, and the host had collected, is the owner's; what it says of its death is
nobody's.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.launcher import GuestConfig
from tests.chain import world
from tests.chain.host_view import HostView, look
from tests.chain.life import Life, live, owner_address, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.show import Show
from tests.chain.world import World, make_world
from tests.faults.plugin import FaultSeen
from tests.vm.direct_boot import BOOT_TEST_SECONDS, ONE_END, DirectImage
from tests.vm.harness.boots import record_boot
from tests.vm.harness.gdb_remote import break_the_kernel
from tests.vm.owner_visit import PYTHON

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]

FAULT = "import ctypes; ctypes.string_at(8)"  # the kernel writes a line about it
QUIET_MS = 3000  # what a line may be under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A guest whose kernel panicked, from both sides."""

    life: Life
    log: OwnerLog
    view: HostView
    events: list[object]


@pytest.fixture(scope="module")
def death(
    prod_image: DirectImage, pod_image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Death:
    assert prod_image  # built, and with it the UKI
    folder = tmp_path_factory.mktemp("panic")
    show = Show()
    with make_world(folder, show, layout=pod_image) as scene:
        config = scene.guest("guest", uki=world.IMAGES / "ccinit-prod.efi")
        began = time.monotonic()
        life = live(config, show, visit=lambda guest: kill(scene, guest, config))
        record_boot("a kernel that panics (prod, UKI)", time.monotonic() - began)
        assert life.last == (Phase.RUN, Code.OK)  # it ran, and told of no end
        return Death(
            life=life,
            log=read_log(scene.owner, write_stream(life, folder / "stream"), is_own=False),
            view=look(config, scene.canaries.by_name()),
            events=end_events(folder / "guest"),
        )


def kill(scene: World, guest: Guest, config: GuestConfig) -> None:
    """Have the kernel say something, let it be collected, and make it panic."""
    command = (scene.canaries.container, PYTHON, "-I", "-c", FAULT)
    scene.owner.ask("exec", *command, at=owner_address(config), accept=(139,))
    with guest.client() as client:  # beside the one that collects for the owner
        collected = sum(len(chunk.blob) for chunk in client.collect(wait_ms=QUIET_MS, follow=False))
    assert collected
    break_the_kernel(guest.qmp, guest.files.folder / "gdb")


def end_events(folder: Path) -> list[object]:
    lines = (folder / "events.jsonl").read_bytes().splitlines()
    ends = {"SHUTDOWN", "RESET", "POWERDOWN", "GUEST_PANICKED", "GUEST_CRASHLOADED"}
    events = [json.loads(line) for line in lines]
    return [event["data"] for event in events if event["event"] in ends]


def test_r90_panic_looks_like_every_other_end(death: Death) -> None:
    assert death.life.end is EndReason.RESET
    assert death.events == ONE_END


def test_owner_reads_what_the_kernel_said_before(death: Death) -> None:
    kernel = [entry.text for entry in death.log.entries if entry.kind == "kernel"]
    image = json.loads((world.IMAGES / "ccinit-prod.json").read_text())
    assert any(f"Linux version {image['kernel_release']} " in line for line in kernel)
    assert any("segfault at 8" in line for line in kernel)


def test_r90_owner_sees_that_the_guest_did_not_end_its_log(death: Death) -> None:
    assert death.log.verdict["ended"] is False
    findings = death.log.verdict["findings"]
    assert isinstance(findings, list)
    assert {finding["reason"] for finding in findings} <= {"unseal.end", "unseal.unsigned"}
    assert not any("Kernel panic" in entry.text for entry in death.log.entries)


def test_r90_panic_said_nothing_to_the_host(death: Death, fault_seen: FaultSeen) -> None:
    assert death.view.complaints() == ()
    assert death.view.sinks["vsock"] > 0
    fault_seen.host("a reset")
    fault_seen.owner("the log up to there, without an end")
