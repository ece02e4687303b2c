"""How a verity volume is opened, by a device-mapper that only writes down what it is asked for."""

import errno
import hashlib
from collections.abc import Sequence

import pytest

from ccinit.errors import KernelError, VerificationError
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.dm import DmControl, DmDevice, DmTarget
from ccinit.kernel.mount import MountFlag
from ccinit.unlock import verity_volume
from ccinit.unlock.verity_volume import activate_verity, select_verity_disk
from ccinit.values import replace

PARAMETERS = VerityParameters(
    root_hash=RootHash(bytes(32)), salt=Salt(bytes(range(32))), data_blocks=2
)
DISK = BlockDevice(
    name="vdb",
    number="254:16",
    size_bytes=PARAMETERS.device_bytes,
    read_only=True,
    serial="",
    holders=(),
)
UP = ["create", "load True", "resume True", "mount"]


class Machine(DmControl):
    """Fails to mount if it is told to."""

    def __init__(self, *, mounts: bool) -> None:
        self.steps: list[str] = []
        self.mounts = mounts

    def create(self, name: str) -> DmDevice:
        self.steps.append("create")
        return DmDevice(name=name, minor=4)

    def load(
        self,
        device: DmDevice,
        targets: Sequence[DmTarget],
        *,
        read_only: bool = False,
        secure: bool = False,
    ) -> None:
        (target,) = targets
        assert (device.minor, secure) == (4, False)
        assert (target.kind, target.length_sectors) == ("verity", 16)
        self.steps.append(f"load {read_only}")

    def resume(self, device: DmDevice, *, read_only: bool = False) -> None:
        self.steps.append(f"resume {read_only}" if device.minor == 4 else "resume another")

    def remove(self, device: DmDevice) -> None:
        self.steps.append("remove" if device.minor == 4 else "remove another")

    def mount(self, source: str, target: str, file_system: str, flags: MountFlag) -> None:
        assert (source, target, file_system) == ("/dev/dm-4", "/run/model", "erofs")
        assert flags == MountFlag.RDONLY | MountFlag.NODEV | MountFlag.NOSUID
        self.steps.append("mount")
        if not self.mounts:
            raise KernelError(errno.EINVAL, "mount", target)

    def unmount(self, target: str) -> None:
        assert target == "/run/model"
        self.steps.append("unmount")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    made = Machine(mounts=getattr(request, "param", True))
    monkeypatch.setattr(verity_volume, "mount", made.mount)
    monkeypatch.setattr(verity_volume, "unmount", made.unmount)
    return made


def test_volume_is_read_only_without_devices_and_programs_of_other_users(machine: Machine) -> None:
    stack = activate_verity(machine, "model", DISK, PARAMETERS, "/run/model")
    assert (stack.node, machine.steps) == ("/dev/dm-4", UP)
    stack.close()
    assert machine.steps == [*UP, "unmount", "remove"]


@pytest.mark.parametrize("machine", [False], indirect=True)
def test_volume_that_cannot_be_mounted_leaves_no_device(machine: Machine) -> None:
    with pytest.raises(KernelError) as error:
        activate_verity(machine, "model", DISK, PARAMETERS, "/run/model")
    assert error.value.reason == "kernel.mount"
    assert machine.steps == [*UP, "remove"]


def test_disk_is_chosen_by_the_block_that_the_root_names(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = bytes(range(256)) * 16
    known = replace(PARAMETERS, root_hash=RootHash(hashlib.sha256(PARAMETERS.salt + tree).digest()))
    blocks = {"/dev/vdb": bytes(4096), "/dev/vdc": tree, "/dev/vdd": tree}
    asked = []

    def read(node: str, offset: int, length: int) -> bytes:
        asked.append((node, offset, length))
        return blocks[node]

    monkeypatch.setattr(verity_volume, "read_direct", read)
    disks = tuple(replace(DISK, name=name) for name in ("vdb", "vdc", "vdd"))
    assert select_verity_disk("model", disks, known) == disks[1]
    assert asked == [(node, 2 * 4096, 4096) for node in ("/dev/vdb", "/dev/vdc")]
    with pytest.raises(VerificationError) as refused:
        select_verity_disk("model", disks[:1], known)
    assert refused.value.reason == "verity.root"
    assert refused.value.detail == "no disk has the hash tree of model"
