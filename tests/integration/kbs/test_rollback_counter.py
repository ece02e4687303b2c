"""The rollback anchor over a real KBS: the guest's own half, its client, TLS, policy and counter.

A directory is the volume, and a copy of it an old disk; `tests/vm` does the same with disks.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.kbs import step_counter
from ccinit.agent.jobs.messages.kbs import CounterStep, KbsReply
from ccinit.agent.phases import rollback
from ccinit.agent.phases.attestation import Attested, plan_counters
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.rollback import Anchor
from ccinit.agent.state import BootState
from ccinit.errors import CcinitError
from ccinit.formats.kbs.rollback_counter import CounterAdvance, counter_uri
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.volume import PersistentVolume, select_kind
from ccinit.kernel.event_loop import EventLoop
from ccinit.unlock.rollback import read_counter
from guest_owner.commands.initdata import make_document
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.kbs.http import FakeKbs, answer, refuse
from tests.fakes.kbs.tls import KbsServer
from tests.integration.attestation.test_kbs import Guest as Attesting
from tests.integration.kbs.harness import TEST_IMAGE, Kbs, booted_tpm, running_kbs
from tests.integration.kbs.test_job import request_to
from tests.integration.kbs.test_job import run as run_job
from tests.integration.kbs.two_pods import guest_with, owner, two_pods_state

VOLUME = """
[[volume]]
name = "data"
kind = "persistent"
size_bytes = 67108864
key = "kbs:///ccinit/shop/volume-key-data"
rollback = "kbs-counter"
"""
SHOP_POD = POD + VOLUME
SHOP = make_document(CONFIG, SHOP_POD)
BANK = make_document(CONFIG, POD.replace('name = "shop"', 'name = "bank"'))
MANIFEST = parse_pod_manifest(SHOP_POD)
URI = counter_uri("shop", "data")
HOLDER = bytes(16)


@pytest.fixture
def kbs(tmp_path: Path) -> Iterator[Kbs]:
    documents = {"shop": SHOP, "bank": BANK}
    state = two_pods_state(tmp_path, documents, "rollback-counter", "shop", "data")
    with running_kbs(state) as server:
        yield server


def attesting(kbs: Kbs, document: bytes = SHOP) -> Attesting:
    return guest_with(kbs, document)


def step(who: Attesting, *, to: int = 0, holder: bytes = HOLDER) -> int:
    advance = CounterAdvance(to=to, holder=holder) if to else None
    with who.client() as client:
        return step_counter(client, CounterStep(uri=URI, advance=advance))


def refused(who: Attesting, *, to: int = 0, holder: bytes = HOLDER) -> str:
    with pytest.raises(CcinitError) as error:
        step(who, to=to, holder=holder)
    return error.value.reason


@dataclass
class Boots:
    """Boots of the pod, one after the other, on a volume that is a directory."""

    kbs: Kbs
    volume: Path
    events: list[str] = field(default_factory=list)
    manifest: PodManifest = MANIFEST

    def anchor(self) -> Anchor:
        """What UNLOCK has of the volume, after ATTEST."""
        (planned,) = plan_counters(self.manifest)
        (volume,) = select_kind(self.manifest.volumes, PersistentVolume)
        with attesting(self.kbs).client() as client:
            known = step_counter(client, planned)
        anchor = Anchor.of(
            cast("Guest", SimpleNamespace(event=self.events.append, state=BootState())),
            cast("Configured", SimpleNamespace(manifest=self.manifest)),
            Attested(grants={}, counters={planned.uri: known}),
            volume,
        )
        assert anchor is not None
        return anchor

    def open(self) -> Anchor:
        anchor = self.anchor()
        EventLoop().run(anchor.open(str(self.volume)))
        return anchor

    def close(self, anchor: Anchor) -> None:
        anchor.write()
        anchor.note_closed()
        EventLoop().run(anchor.tell_kbs())

    def refused(self) -> str:
        with pytest.raises(CcinitError) as error:
            self.open()
        return error.value.reason

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.volume, self.volume.with_name(name)))

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.volume)
        shutil.copytree(copy, self.volume)


@pytest.fixture
def boots(kbs: Kbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boots:
    async def request_resources(
        _guest: Guest,
        _configured: Configured,
        _wanted: Any,
        *,
        counters: tuple[CounterStep, ...],
        max_seconds: float,
    ) -> KbsReply:
        assert max_seconds >= 30
        with attesting(kbs).client() as client:
            moved = tuple(step_counter(client, one) for one in counters)
        return KbsReply(released=(), policy_keys=(), date=0, counters=moved)

    monkeypatch.setattr(rollback, "request_resources", request_resources)
    volume = tmp_path / "volume"
    volume.mkdir()
    return Boots(kbs, volume)


def test_r44_volume_that_was_closed_opens_again_and_both_count(boots: Boots) -> None:
    for boot in range(3):
        anchor = boots.open()
        assert (read_counter(str(boots.volume)), step(attesting(boots.kbs))) == (2 * boot + 1,) * 2
        boots.close(anchor)
        assert (read_counter(str(boots.volume)), step(attesting(boots.kbs))) == (2 * boot + 2,) * 2
    assert boots.events[-1] == "rollback counter of volume data is 6"


def test_r44_old_copy_of_the_disk_is_refused(boots: Boots) -> None:
    boots.close(boots.open())
    old = boots.copy("old")
    anchor = boots.open()
    during = boots.copy("during")
    boots.close(anchor)
    newest = boots.copy("newest")
    for copy in (old, during):
        boots.put_back(copy)
        assert boots.refused() == "volume.rollback"
    boots.put_back(newest)
    boots.close(boots.open())


def test_r44_blank_disk_in_the_place_of_a_used_volume_is_refused(boots: Boots) -> None:
    assert boots.anchor().may_create
    boots.close(boots.open())
    assert not boots.anchor().may_create
    shutil.rmtree(boots.volume)
    boots.volume.mkdir()
    assert boots.refused() == "volume.rollback"


def test_crash_between_volume_and_kbs_is_no_rollback(
    boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At opening and at closing: the volume is one ahead, and the next boot tells the KBS."""
    boots.close(boots.open())
    with monkeypatch.context() as broken:
        broken.setattr(rollback, "request_resources", fail)
        with pytest.raises(ConnectionError):
            boots.open()
    assert (read_counter(str(boots.volume)), step(attesting(boots.kbs))) == (3, 2)
    anchor = boots.open()
    assert step(attesting(boots.kbs)) == 3
    with monkeypatch.context() as broken:
        broken.setattr(rollback, "request_resources", fail)
        with pytest.raises(ConnectionError):
            boots.close(anchor)
    assert (read_counter(str(boots.volume)), step(attesting(boots.kbs))) == (4, 3)
    boots.close(boots.open())
    assert (read_counter(str(boots.volume)), step(attesting(boots.kbs))) == (5, 5)


async def fail(*_: object, **__: object) -> KbsReply:
    raise ConnectionError


def test_volume_that_was_not_closed_tells_the_kbs_nothing(boots: Boots) -> None:
    anchor = boots.open()
    EventLoop().run(anchor.tell_kbs())
    anchor.write()
    EventLoop().run(anchor.tell_kbs())
    assert step(attesting(boots.kbs)) == 1


def test_states_since_the_last_opening_are_accepted_as_documented(boots: Boots) -> None:
    boots.open()
    during = boots.copy("during")
    (boots.volume / "later").touch()
    boots.put_back(during)
    boots.open()
    assert step(attesting(boots.kbs)) == 2


def test_second_guest_on_a_copy_ends_the_clean_close_of_the_first(boots: Boots) -> None:
    first = boots.open()
    boots.open()
    first.write()
    first.note_closed()
    with pytest.raises(CcinitError) as error:
        EventLoop().run(first.tell_kbs())
    assert error.value.reason == "kbs.plugin_internal_error"
    assert str(boots.kbs.audit()[-1]["reason"]).startswith("counter.taken: ")


def test_kbs_that_forgot_is_noticed_and_the_owner_can_accept_a_backup(boots: Boots) -> None:
    for _ in range(3):
        boots.close(boots.open())
    owner(boots.kbs.state, "register", "rollback-counter", "shop", "data", "--value", "0")
    assert boots.refused() == "volume.counter_ahead"
    owner(boots.kbs.state, "register", "rollback-counter", "shop", "data", "--value", "6")
    boots.close(boots.open())


def test_guest_of_another_pod_reaches_no_counter(kbs: Kbs) -> None:
    assert step(attesting(kbs)) == 0
    assert refused(attesting(kbs, BANK)) == "kbs.plugin_internal_error"
    assert str(kbs.audit()[-1]["reason"]).startswith("counter.pod: ")
    assert refused(attesting(kbs, BANK), to=1) == "kbs.plugin_internal_error"
    assert step(attesting(kbs)) == 0


def test_policy_decides_about_counters_as_about_any_resource(kbs: Kbs) -> None:
    who = attesting(kbs)
    for index in (4, 9, 11):
        who.tpm.pcrs[index] = booted_tpm(TEST_IMAGE).pcrs[index]
    assert refused(who, to=1) == "kbs.policy_deny"
    assert step(attesting(kbs), to=1) == 1
    record = kbs.audit()[-1]
    assert (record["resource"], record["minted"]) == (str(URI), "counter 1")


def test_counter_that_was_not_registered_is_absent(kbs: Kbs) -> None:
    (kbs.state / "rollback-counters" / "shop" / "data.json").unlink()
    assert refused(attesting(kbs)) == "kbs.plugin_internal_error"
    assert str(kbs.audit()[-1]["reason"]).startswith("counter.absent: ")


def test_nobody_reaches_a_counter_without_attestation(kbs: Kbs) -> None:
    http = kbs.client().http
    for call in (http.get, http.post):
        reply = call("/kbs/v0/rollback-counter/shop/data")
        assert (reply.status_code, "TokenNotFound" in reply.text) == (401, True)


def test_kbs_without_the_plugin_ends_the_guest() -> None:
    """As Trustee answers; nothing is taken for a counter instead."""
    faults = [None, None, answer(refuse(404, "PluginNotFound"))]
    kbs = FakeKbs(faults=list(faults))
    with KbsServer(kbs=kbs) as server, pytest.raises(CcinitError) as error:
        run_job(request_to(server, wanted=(), counters=(CounterStep(uri=URI),)))
    assert error.value.reason == "kbs.plugin_not_found"
