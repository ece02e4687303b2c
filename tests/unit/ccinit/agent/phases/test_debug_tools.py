"""The tools disk is one like any other: declared it has a role, undeclared it is one too many."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.phases import storage
from ccinit.agent.phases.debug_tools import find_tools_disk
from ccinit.errors import CcinitError
from ccinit.formats.disk.verity import BLOCK_BYTES, Salt, VerityParameters, build_hash_tree
from ccinit.formats.initdata.guest_config import DebugConfig
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.block import BlockDevice
from ccinit.unlock import verity_volume
from tests.fakes.machine.no_waiting import finish

if TYPE_CHECKING:
    from ccinit.agent.phases.storage import ScratchDisks

DATA = b"tools".ljust(BLOCK_BYTES, b"\0") + bytes(BLOCK_BYTES)
PARAMETERS, TREE = build_hash_tree((DATA,), Salt(b"\x01" * 32))
OTHER, OTHER_TREE = build_hash_tree((DATA[::-1],), Salt(b"\x01" * 32))
SCRATCH_BYTES = 1 << 30


def disk(name: str, size_bytes: int, holders: tuple[str, ...] = ()) -> BlockDevice:
    return BlockDevice(
        name=name, number="254:0", size_bytes=size_bytes, read_only=False, serial=name,
        holders=holders,
    )  # fmt: skip


INITDATA, ROOT = disk("vda", 4096), disk("vdb", len(DATA + TREE), ("dm-0",))
SCRATCH = disk("vdc", SCRATCH_BYTES)
TOOLS = disk("vdd", len(DATA + TREE))
CONTENTS = {ROOT.node: DATA + TREE, TOOLS.node: DATA + TREE}


VOLUME = ScratchVolume(name="scratch", size_bytes=SCRATCH_BYTES, profile=ScratchProfile.AEAD_RAM)


class Bench:
    """UNLOCK as far as the roles, on disks that are bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents = dict(CONTENTS)
        self.disks = [INITDATA, ROOT, SCRATCH, TOOLS]
        self.scratch: ScratchDisks | None = None
        self.apart: list[BlockDevice | None] = []
        self.events: list[str] = []
        limits = SimpleNamespace(memory_store_bytes=7 << 20)
        self.config = SimpleNamespace(debug=DebugConfig(tools=PARAMETERS), limits=limits)
        self.volumes: tuple[Any, ...] = (VOLUME,)
        self.unlocked = storage.Unlocked(volumes={}, store="")
        monkeypatch.setattr(verity_volume, "read_direct", self.read)
        monkeypatch.setattr(storage, "DmControl", lambda: SimpleNamespace(close=lambda: None))
        monkeypatch.setattr(storage, "find_volumes", self.find_volumes)
        monkeypatch.setattr(storage._Unlocking, "open_scratch", self.open_scratch)
        monkeypatch.setattr(storage, "_make_with_parent", lambda path, _mode: path)

    @property
    def configured(self) -> Any:
        return SimpleNamespace(
            config=self.config,
            manifest=SimpleNamespace(name="shop", volumes=self.volumes),
            initdata=INITDATA,
            disks=tuple(self.disks),
        )

    def read(self, node: str, offset: int, length: int) -> bytes:
        return self.contents[node][offset : offset + length]

    async def find_volumes(self, *_: object, apart: BlockDevice | None) -> tuple[()]:
        self.apart.append(apart)
        return ()

    async def open_scratch(self, *arguments: object) -> int:
        self.scratch = cast("ScratchDisks", arguments[-1])
        return 0

    def unlock(self) -> None:
        teardown = SimpleNamespace(push=lambda *_: None)
        guest: Any = SimpleNamespace(teardown=teardown, event=self.events.append)
        self.scratch = None
        self.unlocked = finish(storage.unlock(guest, self.configured, cast("Any", None)))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def refused(bench: Bench) -> str:
    with pytest.raises(CcinitError) as caught:
        bench.unlock()
    assert bench.scratch is None
    return caught.value.reason


def test_log_has_the_disks_that_a_manifest_can_be_compared_with(bench: Bench) -> None:
    bench.disks = bench.disks[:3]
    assert refused(bench) == "volume.missing"
    (event,) = bench.events
    assert event.startswith(f"disks: {INITDATA.name} of {INITDATA.size_bytes} bytes")
    assert event.count(" of ") == 3


def test_declared_tools_have_a_role_and_are_no_volume(bench: Bench) -> None:
    assert find_tools_disk(bench.configured) is TOOLS
    bench.unlock()
    assert bench.scratch == ((VOLUME, SCRATCH),)
    assert bench.apart == [TOOLS]


def test_pod_without_scratch_gets_a_store_in_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def open_store(_guest: object, size_bytes: int) -> str:
        sizes.append(size_bytes)
        return "/store"

    monkeypatch.setattr(storage, "open_memory_store", open_store)
    bench.unlock()
    assert (bench.unlocked.store, bench.unlocked.in_memory) == (
        f"{storage.ROOT}/scratch/ccinit",
        False,
    )
    assert sizes == []
    bench.volumes = ()
    assert refused(bench) == "disk.surplus"
    bench.disks.remove(SCRATCH)
    bench.unlock()
    assert (bench.unlocked.store, bench.unlocked.in_memory) == ("/store", True)
    assert sizes == [7 << 20]


def test_tools_that_are_not_declared_are_a_disk_too_many(bench: Bench) -> None:
    bench.config.debug = DebugConfig()
    assert find_tools_disk(bench.configured) is None
    assert refused(bench) == "disk.surplus"
    bench.disks.remove(TOOLS)
    bench.unlock()


def test_declared_tools_that_are_missing_end_the_boot(bench: Bench) -> None:
    bench.disks.remove(TOOLS)
    assert refused(bench) == "volume.missing"


def test_other_tools_of_the_same_size_end_the_boot(bench: Bench) -> None:
    bench.contents[TOOLS.node] = DATA[::-1] + OTHER_TREE
    assert refused(bench) == "verity.root"
    bench.config.debug = DebugConfig(tools=OTHER)
    bench.unlock()


def test_second_disk_with_the_tools_is_one_too_many(bench: Bench) -> None:
    second = disk("vde", len(DATA + TREE))
    bench.contents[second.node] = DATA + TREE
    bench.disks.append(second)
    assert refused(bench) == "disk.surplus"


@pytest.mark.parametrize("more", [-BLOCK_BYTES, BLOCK_BYTES])
def test_disk_of_another_length_is_not_the_tools(bench: Bench, more: int) -> None:
    bench.disks[-1] = disk("vdd", TOOLS.size_bytes + more)
    assert refused(bench) == "volume.missing"


def test_parameters_are_exactly_as_long_as_data_and_tree() -> None:
    assert isinstance(PARAMETERS, VerityParameters)
    assert PARAMETERS.device_bytes == len(DATA + TREE)
