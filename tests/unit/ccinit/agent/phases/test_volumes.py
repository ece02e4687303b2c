"""Which disk is which volume, and the keys of disks that were opened to find out."""

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.phases import volumes
from ccinit.agent.phases.volumes import (
    FoundLuks2Volume,
    FoundPersistentVolume,
    FoundVerityVolume,
    find_luks2_disk,
)
from ccinit.agent.teardown import Teardown
from ccinit.errors import (
    CcinitError,
    ChildError,
    FormatError,
    KernelError,
    VerificationError,
)
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.volume import Luks2Volume, PersistentVolume, VerityVolume
from ccinit.kernel.event_loop import EventLoop
from ccinit.secret import Secret
from ccinit.unlock.luks2 import RELEASED_PIPE, VOLUME_KEY_FD, Luks2Reply, Luks2Request
from ccinit.unlock.volume import VolumeRequest
from ccinit.values import replace
from tests.fakes.machine.scarcity import count_descriptors, descriptors_left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ccinit.agent.processes.children import Children
    from ccinit.kernel.block import BlockDevice

OPENS = None
FOREIGN = FormatError("luks2.magic", "no header")
UNSEALED = VerificationError("luks2.seal", "another seal")
DEAD = ChildError("child.ended", "luks2: signal 11")
KEY = ResourceUri("ccinit", "shop", "volume-key-data")
VOLUME = PersistentVolume(name="data", size_bytes=8192, key=KEY, grown_from_bytes=(4096,))
LUKS2 = Luks2Volume(name="data", size_bytes=8192, key=KEY, is_sealed=False)
MODEL = VerityVolume(
    name="model",
    size_bytes=8192,
    verity=VerityParameters(root_hash=RootHash(bytes(32)), salt=Salt(bytes(32)), data_blocks=2),
)


class FakeChildren:
    """Opens one header after another, or raises instead."""

    def __init__(self, answers: "Sequence[CcinitError | None]") -> None:
        self._answers = iter(answers)

    async def run(
        self, *_job: object, fds: dict[str, int], secrets: dict[str, Secret], seconds: float
    ) -> Luks2Reply:
        assert secrets[RELEASED_PIPE].reveal() == b"released"
        assert seconds > 0
        error = next(self._answers)
        if error is not None:
            raise error
        os.write(fds[VOLUME_KEY_FD], bytes(range(64)))
        return Luks2Reply()


@pytest.mark.parametrize(
    ("answers", "reason", "lengths"),
    [
        pytest.param([OPENS], "", [64], id="one"),
        pytest.param([FOREIGN, OPENS, FOREIGN], "", [64], id="one among others"),
        pytest.param([UNSEALED, OPENS], "", [64], id="one after somebody else's"),
        pytest.param([FOREIGN, FOREIGN], "luks2.magic", [], id="none"),
        pytest.param([OPENS, FOREIGN, OPENS], "volume.ambiguous", [0, 0], id="two"),
        pytest.param([OPENS, DEAD], "child.ended", [0], id="one, and a child that dies"),
    ],
)
def test_key_is_left_of_the_volume_alone(
    monkeypatch: pytest.MonkeyPatch,
    answers: "Sequence[CcinitError | None]",
    reason: str,
    lengths: list[int],
) -> None:
    made: list[Secret] = []

    def receive(fd: int) -> Secret:
        made.append(Secret(os.read(fd, 65)))
        return made[-1]

    monkeypatch.setattr(volumes, "copy_header", lambda *_: b"header")
    monkeypatch.setattr(volumes, "receive_volume_key", receive)
    disks = [cast("BlockDevice", SimpleNamespace(name=f"vd{n}")) for n in range(len(answers))]
    finding = find_luks2_disk(
        cast("Children", FakeChildren(answers)),
        Luks2Request(pod="shop", name="data", sealed=False),
        disks,
        Secret(b"released"),
    )
    loop, found = EventLoop(), ""
    before = count_descriptors()
    try:
        loop.run(finding)
    except CcinitError as error:
        found = error.reason
    assert found == reason
    assert [len(key) for key in made] == lengths
    assert count_descriptors() == before - 1  # the loop's own


def test_key_of_a_volume_that_is_never_opened_is_wiped_on_the_way_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volumes, "copy_header", lambda *_: b"header")
    disk = cast("BlockDevice", SimpleNamespace(name="vda", size_bytes=8192, holders=()))
    guest: Any = SimpleNamespace(children=FakeChildren([OPENS]), teardown=Teardown())
    configured: Any = SimpleNamespace(
        initdata=None, disks=(disk,), manifest=SimpleNamespace(name="shop", volumes=(LUKS2,))
    )
    grant = SimpleNamespace(secret=Secret(b"released"))
    attested: Any = SimpleNamespace(grants={LUKS2.key: grant})

    async def find_and_end() -> None:
        (found,) = await volumes.find_volumes(guest, cast("Any", None), configured, attested)
        assert isinstance(found, FoundLuks2Volume)
        assert len(found.key) == 64
        assert await guest.teardown.run() == ()
        assert len(found.key) == 0

    EventLoop().run(find_and_end())


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_blank_disk_is_formatted_only_if_it_is_granted_and_was_never_counted(
    counted: bool,  # noqa: FBT001
    granted: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[VolumeRequest] = []

    async def activate(
        _control: object, request: VolumeRequest, key: Secret, target: str, _format: object
    ) -> None:
        assert (key.reveal(), target) == (b"key", "/data")
        asked.append(request)

    monkeypatch.setattr(volumes, "activate_volume", activate)
    nothing: Any = None
    request = VolumeRequest(
        pod="shop", name="data", disk=nothing, may_create=granted, former_bytes=(4096,)
    )
    found = FoundPersistentVolume(volume=VOLUME, request=request, released=Secret(b"key"))
    opening = volumes.open_volume(nothing, found, "/data", nothing, may_create=not counted)
    EventLoop().run(opening)
    assert asked == [replace(request, may_create=granted and not counted)]


def test_disk_that_has_a_role_is_no_candidate_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, list[str]]] = []

    def select_verity(name: str, disks: "Sequence[BlockDevice]", _verity: object) -> "BlockDevice":
        tried.append((name, [disk.name for disk in disks]))
        return disks[0]

    def select_volume(
        _control: object, requests: "Sequence[VolumeRequest]", key: Secret
    ) -> VolumeRequest:
        assert key.reveal() == b"released"
        assert {request.former_bytes for request in requests} == {VOLUME.grown_from_bytes}
        tried.append((requests[0].name, [request.disk.name for request in requests]))
        return requests[0]

    monkeypatch.setattr(volumes, "select_verity_disk", select_verity)
    monkeypatch.setattr(volumes, "select_volume_disk", select_volume)
    names = ("initdata", "root", "tools", "vda", "vdb", "vdc")
    disks = [
        SimpleNamespace(name=name, size_bytes=8192, holders=("dm-0",) if name == "root" else ())
        for name in names
    ]
    declared = (VOLUME, replace(VOLUME, name="more"), MODEL)
    manifest = SimpleNamespace(name="shop", volumes=declared)
    configured: Any = SimpleNamespace(initdata=disks[0], disks=tuple(disks), manifest=manifest)
    grant = SimpleNamespace(secret=Secret(b"released"), create=False)
    attested: Any = SimpleNamespace(grants={VOLUME.key: grant})
    nothing, tools = cast("Any", None), cast("Any", disks[2])
    finding = volumes.find_volumes(nothing, nothing, configured, attested, apart=tools)
    found = EventLoop().run(finding)
    assert tried == [
        ("model", ["vda", "vdb", "vdc"]),
        ("data", ["vdb", "vdc"]),
        ("more", ["vdc"]),
    ]
    assert [(one.volume.name, one.disk.name) for one in found] == [
        ("model", "vda"),
        ("data", "vdb"),
        ("more", "vdc"),
    ]


@pytest.mark.parametrize("kind", ["luks2", "verity"])
def test_volume_made_elsewhere_is_opened_by_what_pins_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[object, ...]] = []
    for name in ("activate_luks2", "activate_verity", "activate_volume"):
        monkeypatch.setattr(volumes, name, lambda *given, name=name: opened.append((name, *given)))
    key = Secret(bytes(64))
    disk: Any = SimpleNamespace(name="vda")
    found = (
        FoundLuks2Volume(volume=LUKS2, disk=disk, key=key)
        if kind == "luks2"
        else FoundVerityVolume(volume=MODEL, disk=disk)
    )
    nothing: Any = None
    opening = volumes.open_volume(nothing, found, "/at", nothing, may_create=False)
    EventLoop().run(opening)
    if kind == "luks2":
        assert opened == [("activate_luks2", None, "data", disk, key, "/at")]
        assert len(key) == 0  # wiped
    else:
        assert opened == [("activate_verity", None, "model", disk, MODEL.verity, "/at")]


def test_volume_of_a_size_that_no_disk_has_is_named_with_it() -> None:
    configured = SimpleNamespace(
        initdata=None, disks=(), manifest=SimpleNamespace(name="shop", volumes=(VOLUME,))
    )
    unused = cast("Any", None)
    finding = volumes.find_volumes(unused, unused, cast("Any", configured), unused)
    with pytest.raises(VerificationError) as missing:
        EventLoop().run(finding)
    assert missing.value.reason == "volume.missing"
    assert missing.value.detail == "no disk of 8192 bytes for data"


def test_r79_header_that_finds_no_descriptor_is_the_kernels_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volumes, "copy_header", lambda *_: b"header")
    finding = find_luks2_disk(
        cast("Children", FakeChildren([OPENS])),
        Luks2Request(pod="shop", name="data", sealed=False),
        [cast("BlockDevice", SimpleNamespace(name="vda"))],
        Secret(b"released"),
    )
    loop = EventLoop()
    with descriptors_left(0), pytest.raises(KernelError) as error:
        loop.run(finding)
    assert (error.value.reason, error.value.errno) == ("kernel.memfd_create", errno.EMFILE)
