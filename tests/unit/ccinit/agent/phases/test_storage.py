"""UNLOCK: in which order storage is opened, what containers see of it, and how it is undone."""

import stat
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases import storage
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.phases.volumes import (
    Found,
    FoundLuks2Volume,
    FoundPersistentVolume,
    FoundVerityVolume,
)
from ccinit.agent.teardown import Teardown
from ccinit.errors import ConfigError
from ccinit.formats.disk.integrity import count_meta_bytes
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.volume import (
    Luks2Volume,
    PersistentVolume,
    ScratchProfile,
    ScratchVolume,
    TmpfsVolume,
    VerityVolume,
    Volume,
)
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.mount import CONFINED
from ccinit.secret import Secret
from ccinit.unlock.stack import DiskStack
from ccinit.unlock.volume import VolumeRequest

GIB = 1 << 30
SCRATCH = (
    (ScratchProfile.AEAD_RAM, 8 * GIB),
    (ScratchProfile.AEAD_RAM, GIB),
    (ScratchProfile.AEAD_DISK, GIB),
    (ScratchProfile.CRYPT, GIB),
)
TAGS_BYTES = count_meta_bytes(GIB)
"""Of one scratch disk of 1 GiB with its tags in memory."""

DATA_KEY, OLD_KEY = (
    ResourceUri("ccinit", "shop", f"volume-key-{name}") for name in ("data", "old")
)
SPOOL = ScratchVolume(name="spool", size_bytes=GIB, profile=ScratchProfile.AEAD_RAM)
DATA = PersistentVolume(name="data", size_bytes=8192, key=DATA_KEY)
OLD = Luks2Volume(name="old", size_bytes=8192, key=OLD_KEY, is_sealed=False)
CACHE = TmpfsVolume(name="cache", size_bytes=4096)
MODEL = VerityVolume(
    name="model",
    size_bytes=8192,
    verity=VerityParameters(root_hash=RootHash(bytes(32)), salt=Salt(bytes(32)), data_blocks=2),
)
VOLUMES: tuple[Volume, ...] = (SPOOL, DATA, OLD, CACHE, MODEL)


def disk(size_bytes: int, *, read_only: bool = False) -> BlockDevice:
    return BlockDevice(
        name="vdb",
        number="254:16",
        size_bytes=size_bytes,
        read_only=read_only,
        serial="",
        holders=(),
    )


REQUEST = VolumeRequest(pod="shop", name="data", disk=disk(8192), may_create=True)


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


class FakeAnchor:
    """A counter that has advanced before unless it `may_create`."""

    def __init__(self, done: list[str], *, may_create: bool = False) -> None:
        self.may_create = may_create
        self._done = done

    async def open(self, directory: str) -> None:
        assert mode_of(directory) == 0o711
        self._done.append(f"compare the counter in {Path(directory).name}")

    def write(self) -> None:
        self._done.append("write the counter")

    def note_closed(self) -> None:
        self._done.append("note the close")

    async def tell_kbs(self) -> None:
        self._done.append("tell the KBS")


class Bench:
    """A guest whose kernel notes what UNLOCK asks for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.root = root
        self.done: list[str] = []
        self.events: list[str] = []
        self.keys = {DATA_KEY: Secret(b"data key"), OLD_KEY: Secret(b"old key")}
        self.anchors: dict[str, FakeAnchor] = {}
        self.memory_bytes = GIB
        self.apart: list[object] = []
        self.assigned: list[dict[str, Any]] = []
        self.tools: BlockDevice | None = None
        self.luks2_key = Secret(b"volume key")
        self.volumes: tuple[Volume, ...] = VOLUMES
        self.teardown = Teardown()
        for name, value in {
            "ROOT": str(root / "volumes"),
            "DmControl": lambda: SimpleNamespace(close=lambda: self.done.append("leave dm")),
            "find_tools_disk": lambda _configured: self.tools,
            "find_volumes": self.find,
            "assign_scratch": self.assign,
            "Anchor": SimpleNamespace(of=self.anchor_of),
            "activate_scratch": self.activate,
            "open_volume": self.open,
            "open_memory_store": lambda _guest, size_bytes: f"memory of {size_bytes}",
            "read_memory": lambda: {"MemAvailable": self.memory_bytes},
            "mount": self.mount,
            "unmount": lambda target: self.note("unmount", target),
        }.items():
            monkeypatch.setattr(storage, name, value)

    def note(self, what: str, target: str, how: str = "") -> None:
        self.done.append(" ".join(filter(None, (what, Path(target).name, how))))

    def mount(self, _source: str, target: str, kind: str, *how: object) -> None:
        self.require_target(target, Path(target).name)
        self.note(f"mount {kind}", target, str(how))

    def anchor_of(
        self, _guest: object, _configured: object, _attested: object, volume: Volume
    ) -> FakeAnchor | None:
        assert isinstance(volume, PersistentVolume)
        return self.anchors.get(volume.name)

    async def find(
        self,
        _guest: object,
        _control: object,
        _configured: object,
        attested: Attested,
        *,
        apart: BlockDevice | None,
    ) -> tuple[Found, ...]:
        assert attested.grants.keys() == self.keys.keys()
        self.apart.append(apart)
        made: dict[str, Found] = {
            "model": FoundVerityVolume(volume=MODEL, disk=disk(8192)),
            "data": FoundPersistentVolume(
                volume=DATA, request=REQUEST, released=attested.grants[DATA_KEY].secret
            ),
            "old": FoundLuks2Volume(volume=OLD, disk=disk(8192), key=self.luks2_key),
        }
        return tuple(made[one.name] for one in self.volumes if one.name in made)

    def assign(self, disks: object, **known: Any) -> tuple[tuple[ScratchVolume, BlockDevice], ...]:
        self.assigned.append({"disks": disks} | known)
        return tuple((one, disk(one.size_bytes)) for one in known["scratch"])

    def stack(self, name: str) -> DiskStack:
        undo = ExitStack()
        undo.callback(lambda: self.done.append(f"close {name}"))
        return DiskStack(node=f"/dev/{name}", undo=undo)

    async def activate(self, *known: Any) -> DiskStack:
        _control, plan, target, format_device = known
        assert callable(format_device)
        self.require_target(target, plan.volume.name)
        self.done.append(f"open {plan.volume.name}")
        return self.stack(plan.volume.name)

    async def open(self, *known: Any, may_create: bool) -> DiskStack:
        _control, found, target, format_device = known
        assert callable(format_device)
        assert all(map(len, self.keys.values()))
        self.require_target(target, found.volume.name)
        self.done.append(f"open {found.volume.name}{' or make it' if may_create else ''}")
        return self.stack(found.volume.name)

    def require_target(self, target: str, name: str) -> None:
        """Require a mount point that children can traverse and not list."""
        assert target == f"{self.root}/volumes/{name}"
        assert mode_of(f"{self.root}/volumes") == 0o711
        assert mode_of(target) == 0o711

    def unlock(self) -> Unlocked:
        scratch = tuple(one for one in self.volumes if isinstance(one, ScratchVolume))
        manifest = SimpleNamespace(name="shop", volumes=self.volumes)
        limits = SimpleNamespace(memory_store_bytes=512)
        configured: Any = SimpleNamespace(
            config=SimpleNamespace(limits=limits),
            manifest=manifest,
            disks=(disk(512), *(disk(one.size_bytes, read_only=True) for one in scratch)),
            initdata=disk(512),
        )
        attested = Attested(
            grants={uri: Grant(secret=key, create=True) for uri, key in self.keys.items()}
        )
        guest: Any = SimpleNamespace(teardown=self.teardown, event=self.events.append)
        unlocked: Unlocked = EventLoop().run(storage.unlock(guest, configured, attested))
        return unlocked

    def end(self) -> list[str]:
        """Undo everything; return what was done for it."""
        self.done.clear()
        assert EventLoop().run(self.teardown.run()) == ()
        return self.done


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, tmp_path)


def test_storage_is_undone_in_reverse_and_the_kbs_is_told_once_disks_are_closed(
    bench: Bench,
) -> None:
    bench.anchors["data"] = FakeAnchor(bench.done)
    bench.unlock()
    how = str((CONFINED, "mode=0711,size=4096"))
    assert bench.done == [
        "open spool",
        "open data",
        "compare the counter in ccinit",
        "open old or make it",
        "open model or make it",
        f"mount tmpfs cache {how}",
    ]
    assert bench.end() == [
        "unmount cache",
        "close model",
        "close old",
        "write the counter",
        "close data",
        "note the close",
        "close spool",
        "tell the KBS",
        "leave dm",
    ]


def test_volume_whose_counter_has_advanced_is_not_made_anew(bench: Bench) -> None:
    bench.volumes = (DATA,)
    bench.anchors["data"] = FakeAnchor(bench.done, may_create=True)
    bench.unlock()
    bench.keys[DATA_KEY] = Secret(b"data key")
    bench.anchors["data"] = FakeAnchor(bench.done, may_create=False)
    bench.unlock()
    opened = [step for step in bench.done if step.startswith("open")]
    assert opened == ["open data or make it", "open data"]


def test_volume_without_a_counter_may_be_made(bench: Bench) -> None:
    bench.unlock()
    assert "open data or make it" in bench.done


def test_keys_are_gone_once_all_volumes_are_open(bench: Bench) -> None:
    """`Bench.open` requires that all were there until then."""
    bench.unlock()
    assert [len(key) for key in bench.keys.values()] == [0, 0]


def test_containers_see_one_directory_of_what_the_guest_made_and_all_of_the_rest(
    bench: Bench,
) -> None:
    unlocked = bench.unlock()
    root = f"{bench.root}/volumes"
    assert unlocked.volumes == {
        "spool": f"{root}/spool/volume",
        "data": f"{root}/data/volume",
        "old": f"{root}/old",
        "cache": f"{root}/cache/volume",
        "model": f"{root}/model",
    }
    assert not list(Path(root, "old").iterdir())
    assert not list(Path(root, "model").iterdir())
    for name in ("spool", "data", "cache"):
        assert mode_of(unlocked.volumes[name]) == 0o777
    assert unlocked.store == f"{root}/spool/ccinit"
    assert mode_of(unlocked.store) == 0o711
    assert (unlocked.in_memory, unlocked.tags_bytes) == (False, TAGS_BYTES)


def test_pod_without_scratch_has_its_store_in_memory(bench: Bench) -> None:
    bench.volumes = (DATA,)
    unlocked = bench.unlock()
    assert (unlocked.store, unlocked.in_memory, unlocked.tags_bytes) == ("memory of 512", True, 0)


def test_disk_of_the_tools_is_no_volume_and_no_scratch(bench: Bench) -> None:
    bench.tools = disk(1024)
    bench.unlock()
    assert bench.apart == [bench.tools]
    (assigned,) = bench.assigned
    assert assigned["volumes"] == {
        "data": disk(8192),
        "old": disk(8192),
        "model": disk(8192),
        "debug.tools": bench.tools,
    }
    assert (assigned["scratch"], assigned["initdata"]) == ((SPOOL,), disk(512))


def test_owner_reads_which_disks_there_are(bench: Bench) -> None:
    bench.unlock()
    assert bench.events[0] == f"disks: vdb of 512 bytes, vdb of {GIB} bytes, read-only"


def test_scratch_that_would_take_the_pods_memory_is_not_opened(bench: Bench) -> None:
    bench.volumes = (SPOOL,)
    bench.memory_bytes = 2 * TAGS_BYTES - 1
    with pytest.raises(ConfigError) as refused:
        bench.unlock()
    assert refused.value.reason == "scratch.memory"
    assert bench.done == []
    bench.memory_bytes = 2 * TAGS_BYTES
    bench.unlock()
    assert bench.done == ["open spool"]


def test_tags_are_counted_as_if_all_of_their_disks_were_written(bench: Bench) -> None:
    bench.volumes = tuple(
        ScratchVolume(name=f"v{number}", size_bytes=size, profile=profile)
        for number, (profile, size) in enumerate(SCRATCH)
    )
    assert bench.unlock().tags_bytes == count_meta_bytes(8 * GIB) + count_meta_bytes(GIB)
