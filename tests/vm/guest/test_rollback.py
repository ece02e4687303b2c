"""A volume whose age the KBS knows, through UNLOCK and the way down, on disks that are put back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.kbs import CounterStep, KbsReply
from ccinit.agent.phases import rollback, storage
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.teardown import Teardown
from ccinit.errors import PeerError, VerificationError
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.rollback_counter import counter_uri
from ccinit.secret import Secret
from ccinit.values import replace
from tests.vm.guest.disks import RELEASED, blank, copy_disk, disk, dm_names, format_device, run
from tests.vm.guest.faulty_disk import MIB, FaultyDisk
from tests.vm.guest.unlocking import unlock

SIZE_BYTES, GROWN_BYTES = 64 * MIB, 96 * MIB
KEY = "kbs:///ccinit/web/volume-key-data"
URI = counter_uri("web", "data")
KEPT = "odd"
"""The disk on which the host keeps its copy."""


def volume(size_bytes: int) -> str:
    """The manifest's entry, which knows where a larger volume came from."""
    former = [SIZE_BYTES] if size_bytes > SIZE_BYTES else []
    return f"""
[[volume]]
name = "data"
kind = "persistent"
size_bytes = {size_bytes}
grown_from_bytes = {former}
key = "{KEY}"
rollback = "kbs-counter"
"""


@dataclass
class World:
    """A pod's volume on a disk of the host, and what the KBS has counted."""

    device: FaultyDisk
    counter: int = 0
    is_reachable: bool = True
    events: list[str] = field(default_factory=list)

    async def request_resources(
        self,
        _guest: Any,
        _configured: Any,
        _wanted: Any,
        *,
        counters: tuple[CounterStep, ...],
        max_seconds: float,
    ) -> KbsReply:
        assert max_seconds >= 30
        if not self.is_reachable:
            raise PeerError("net.unreachable", "test")
        (step,) = counters
        assert step.uri == URI
        assert step.advance is not None
        assert step.advance.to == self.counter + 1
        self.counter += 1
        return KbsReply(released=(), policy_keys=(), date=0, counters=(self.counter,))

    def boot(self) -> tuple[Guest, Path]:
        """Go through UNLOCK; return the guest and what containers see of the volume."""
        guest: Any = SimpleNamespace(teardown=Teardown(), event=self.events.append)
        uri = parse_resource_uri(KEY, "uri")
        attested = Attested(
            grants={uri: Grant(secret=Secret(RELEASED), create=True)},
            counters={URI: self.counter},
        )
        try:
            volumes = unlock(guest, volume(self.device.size_bytes), [self.device.disk], attested)
        except BaseException:
            assert run(guest.teardown.run()) == ()
            raise
        return guest, volumes["data"]

    def run_pod(self, state: str) -> str:
        """One life with a clean close; return what was there and leave `state` instead."""
        guest, directory = self.boot()
        before = (directory / "state").read_text() if (directory / "state").exists() else ""
        (directory / "state").write_text(state)
        assert run(guest.teardown.run()) == ()
        return before

    def boot_and_cut(self) -> None:
        """One life that nobody closes: the devices go, and the KBS hears nothing."""
        guest, directory = self.boot()
        (directory / "state").write_text("lost")
        self.is_reachable = False
        failures = run(guest.teardown.run())
        assert [name for name, _ in failures] == ["counter of volume data"]
        self.is_reachable = True

    def refused(self) -> str:
        with pytest.raises(VerificationError) as error:
            self.boot()
        assert dm_names() == {"test-faulty"}
        return error.value.reason


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(storage, "_formatter", lambda _: format_device)
    blank(disk("small"))
    with FaultyDisk(disk("small"), SIZE_BYTES) as device:
        made = World(device)
        monkeypatch.setattr(rollback, "request_resources", made.request_resources)
        yield made
    assert dm_names() == set()
    blank(disk(KEPT))


def keep(world: World) -> None:
    copy_disk(world.device.disk, disk(KEPT))


def put_back(world: World) -> None:
    copy_disk(replace(disk(KEPT), size_bytes=SIZE_BYTES), world.device.disk)


def test_r44_clean_close_opens_again_and_an_old_disk_does_not(world: World) -> None:
    assert world.run_pod("first") == ""
    keep(world)
    assert world.run_pod("second") == "first"
    assert world.counter == 4
    newest = world.counter
    put_back(world)
    assert world.refused() == "volume.rollback"
    assert world.counter == newest


def test_r44_disk_from_before_a_boot_that_was_cut_off_is_refused(world: World) -> None:
    world.run_pod("first")
    keep(world)
    world.boot_and_cut()
    put_back(world)
    assert world.refused() == "volume.rollback"


def test_r44_disk_from_before_it_grew_is_refused(world: World) -> None:
    world.run_pod("first")
    keep(world)
    world.device.become(GROWN_BYTES)
    assert world.run_pod("second") == "first"
    assert world.run_pod("third") == "second"
    put_back(world)
    assert world.refused() == "volume.rollback"


def test_r44_blank_disk_is_refused_even_under_the_grant(world: World) -> None:
    world.run_pod("first")
    blank(world.device.disk)
    assert world.refused() == "volume.blank"


def test_kbs_that_is_not_told_of_the_close_opens_what_was_closed(world: World) -> None:
    guest, directory = world.boot()
    (directory / "state").write_text("closed")
    world.is_reachable = False
    (failure,) = run(guest.teardown.run())
    assert failure[0] == "counter of volume data"
    assert world.counter == 1
    world.is_reachable = True
    assert world.run_pod("next") == "closed"
    assert world.counter == 3


def test_volume_is_not_used_before_the_kbs_has_counted(world: World) -> None:
    world.run_pod("first")
    world.is_reachable = False
    with pytest.raises(PeerError) as error:
        world.boot()
    assert error.value.reason == "net.unreachable"
    world.is_reachable = True
    assert world.run_pod("second") == "first"
