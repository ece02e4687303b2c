"""The order of steps up and down, seen by a device-mapper that only writes them down."""

import errno
import os
from collections.abc import Sequence

import pytest

from ccinit.errors import FormatError, KernelError, VerificationError
from ccinit.formats.disk.luks2 import PAYLOAD_OFFSET
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.pod.name import read_name
from ccinit.init.stage0 import ROOT_DEVICE_NAME
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.dm import DmControl, DmDevice, DmTarget
from ccinit.secret import Secret
from ccinit.unlock import luks2
from ccinit.unlock import stack as stack_module
from ccinit.unlock.integrity import IntegrityLayout, MetaDevice, plan_memory_layout
from ccinit.unlock.luks2 import activate_luks2
from ccinit.unlock.profile import plan_crypt_target
from ccinit.unlock.stack import DiskStack, activate_crypt, activate_stack, shortened
from ccinit.values import replace

DISK = BlockDevice(
    name="vdb", number="254:16", size_bytes=1 << 20, read_only=False, serial="", holders=()
)
LAYOUT = plan_memory_layout(1 << 20, MetaDevice(node="/dev/ram0", number="1:0"))
INTEGRITY = "ccinit-data.integrity"
CRYPT = "ccinit-data"
UP = (
    *(f"create {INTEGRITY}", f"load {INTEGRITY}", f"resume {INTEGRITY}"),
    *(f"create {CRYPT}", "add key", f"load {CRYPT}", f"resume {CRYPT}", "remove key"),
)
DOWN = (f"suspend {CRYPT}", f"key wipe {CRYPT}", f"remove {CRYPT}", f"remove {INTEGRITY}")


class RecordingControl(DmControl):
    """Fails at the one step it is told to fail at."""

    def __init__(self, fail_at: str = "") -> None:
        self.steps: list[str] = []
        self.fail_at = fail_at
        self.status = "0 2048 -"
        self.shown: DmTarget | None = None  # what the kernel says instead of what was loaded
        self._tables: dict[str, DmTarget] = {}
        self._layout: IntegrityLayout = LAYOUT

    def step(self, text: str) -> None:
        self.steps.append(text)
        if text == self.fail_at:
            raise KernelError(errno.ENOMEM, text, "")

    def loaded(self, name: str) -> DmTarget:
        return self._tables[name]

    def create(self, name: str) -> DmDevice:
        self.step(f"create {name}")
        return DmDevice(name=name, minor=len(self._tables))

    def load(
        self,
        device: DmDevice,
        targets: Sequence[DmTarget],
        *,
        read_only: bool = False,
        secure: bool = False,
    ) -> None:
        assert secure
        assert not read_only
        self.step(f"load {device.name}")
        (self._tables[device.name],) = targets

    def resume(self, device: DmDevice, *, read_only: bool = False) -> None:
        assert not read_only
        self.step(f"resume {device.name}")

    def suspend(self, device: DmDevice) -> None:
        self.step(f"suspend {device.name}")

    def remove(self, device: DmDevice) -> None:
        self.step(f"remove {device.name}")

    def send_message(self, device: DmDevice, message: str) -> None:
        self.step(f"{message} {device.name}")

    def read_table(self, device: DmDevice) -> tuple[DmTarget, ...]:
        if device.name not in self._tables:
            return ()
        if self.shown is not None:
            return (self.shown,)
        parameters = self._layout.to_active_tables(DISK.number)[0]
        return (DmTarget(length_sectors=2048, kind="integrity", parameters=parameters),)

    def read_status(self, device: DmDevice) -> tuple[DmTarget, ...]:
        assert device.name == INTEGRITY
        return (DmTarget(length_sectors=2048, kind="integrity", parameters=self.status),)


def activate(control: RecordingControl, monkeypatch: pytest.MonkeyPatch) -> DiskStack:
    monkeypatch.setattr(stack_module, "add_logon_key", lambda *_: control.step("add key"))
    monkeypatch.setattr(stack_module, "remove_key", lambda _: control.step("remove key"))
    return activate_stack(control, "data", DISK, LAYOUT, Secret(bytes(96)))


def test_stack_goes_up_and_comes_down_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    control = RecordingControl()
    stack = activate(control, monkeypatch)
    assert tuple(control.steps) == UP
    stack.push(lambda: control.step("unmount"))
    control.steps.clear()
    stack.close()
    assert tuple(control.steps) == ("unmount", *DOWN)
    stack.close()
    assert tuple(control.steps) == ("unmount", *DOWN)


def test_no_other_volumes_name_makes_the_name_of_one_of_its_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control = RecordingControl()
    activate(control, monkeypatch)
    names = [step.removeprefix("create ") for step in control.steps if step.startswith("create ")]
    assert names == [INTEGRITY, CRYPT]
    for name in (INTEGRITY, ROOT_DEVICE_NAME):
        assert "." in name.removeprefix("ccinit-")  # in no volume's name
    with Fields({"name": "data-integrity", "dotted": "data.integrity"}, "pod.volume") as fields:
        assert read_name(fields, "name", "pod.volume") == "data-integrity"
        with pytest.raises(FormatError):
            read_name(fields, "dotted", "pod.volume")


@pytest.mark.parametrize(
    ("fail_at", "undone"),
    [
        pytest.param(f"create {INTEGRITY}", (), id="create-integrity"),
        pytest.param(f"load {INTEGRITY}", DOWN[3:], id="load-integrity"),
        pytest.param(f"resume {INTEGRITY}", DOWN[3:], id="resume-integrity"),
        pytest.param(f"create {CRYPT}", DOWN[3:], id="create-crypt"),
        pytest.param("add key", DOWN[2:], id="add-key"),
        pytest.param(f"load {CRYPT}", ("remove key", *DOWN[2:]), id="load-crypt"),
        pytest.param(f"resume {CRYPT}", ("remove key", *DOWN), id="resume-crypt"),
        pytest.param("remove key", DOWN, id="remove-key"),
    ],
)
def test_r49_stack_that_fails_half_way_is_undone(
    monkeypatch: pytest.MonkeyPatch, fail_at: str, undone: tuple[str, ...]
) -> None:
    control = RecordingControl(fail_at)
    with pytest.raises(KernelError) as error:
        activate(control, monkeypatch)
    assert error.value.errno == errno.ENOMEM
    assert tuple(control.steps) == (*UP[: UP.index(fail_at) + 1], *undone)


def test_r49_stack_undoes_the_rest_when_undoing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    control = RecordingControl(f"suspend {CRYPT}")
    stack = activate(control, monkeypatch)
    control.steps.clear()
    with pytest.raises(KernelError):
        stack.close()
    assert tuple(control.steps) == (DOWN[0], *DOWN[2:])


def test_stack_with_key_of_another_length_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    control = RecordingControl()
    with pytest.raises(RuntimeError):
        activate_stack(control, "data", DISK, LAYOUT, Secret(bytes(80)))
    assert control.steps == []


TABLE = DmTarget(
    length_sectors=2048, kind="integrity", parameters=LAYOUT.to_active_tables(DISK.number)[0]
)


@pytest.mark.parametrize(
    ("shown", "status", "reason"),
    [
        (replace(TABLE, kind="linear"), "0 2048 -", "integrity.table"),
        (replace(TABLE, length_sectors=1024), "0 2048 -", "integrity.table"),
        (
            replace(TABLE, parameters=LAYOUT.to_active_tables("254:32")[0]),
            "0 2048 -",
            "integrity.table",
        ),
        (TABLE, "1 2048 -", "integrity.sectors"),
        (TABLE, "0 2040 -", "integrity.sectors"),
        (TABLE, "0", "integrity.sectors"),
    ],
)
def test_device_that_is_not_what_was_planned_is_taken_down_before_it_has_a_key(
    monkeypatch: pytest.MonkeyPatch, shown: DmTarget, status: str, reason: str
) -> None:
    control = RecordingControl()
    control.shown, control.status = shown, status
    with pytest.raises(VerificationError) as refused:
        activate(control, monkeypatch)
    assert refused.value.reason == reason
    assert tuple(control.steps) == (*UP[:3], f"remove {INTEGRITY}")
    control.shown, control.status = TABLE, "0 2048 -"
    activate(control, monkeypatch)


CRYPT_UP = UP[3:]


def activate_alone(
    control: RecordingControl, monkeypatch: pytest.MonkeyPatch, start_bytes: int = 0
) -> DiskStack:
    monkeypatch.setattr(stack_module, "add_logon_key", lambda *_: control.step("add key"))
    monkeypatch.setattr(stack_module, "remove_key", lambda _: control.step("remove key"))
    return activate_crypt(control, "data", DISK, Secret(bytes(64)), start_bytes=start_bytes)


@pytest.mark.parametrize("start_bytes", [0, 4096])
def test_ciphertext_without_tags_is_compared_with_its_plan(
    monkeypatch: pytest.MonkeyPatch, start_bytes: int
) -> None:
    control = RecordingControl()
    good = plan_crypt_target(1 << 20, DISK.number, "ccinit:data", start_bytes=start_bytes)
    control.shown = good
    activate_alone(control, monkeypatch, start_bytes)
    assert tuple(control.steps) == CRYPT_UP
    loaded = control.loaded(CRYPT)
    first = start_bytes // 512
    assert (loaded.kind, loaded.length_sectors) == ("crypt", 2048 - first)
    assert loaded.parameters.split()[3:5] == ["/dev/vdb", str(first)]
    for shown in (
        replace(good, parameters=good.parameters.replace(DISK.number, "254:32")),
        replace(good, length_sectors=good.length_sectors - 8),
        replace(good, kind="linear"),
    ):
        control.steps.clear()
        control.shown = shown
        with pytest.raises(VerificationError) as refused:
            activate_alone(control, monkeypatch, start_bytes)
        assert refused.value.reason == "crypt.table"
        assert tuple(control.steps) == (*CRYPT_UP, *DOWN[:3])


def test_ciphertext_with_key_of_another_length_is_a_bug() -> None:
    control = RecordingControl()
    with pytest.raises(RuntimeError):
        activate_crypt(control, "data", DISK, Secret(bytes(96)))
    assert control.steps == []


FORMER = "ccinit-data.former"
SHORT_UP = (f"create {FORMER}", f"load {FORMER}", f"resume {FORMER}")


def test_beginning_of_a_disk_is_a_disk_until_it_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control = RecordingControl()
    monkeypatch.setattr(stack_module, "_read_number", {"/dev/dm-0": os.makedev(252, 3)}.get)
    with shortened(control, "data", DISK, 4096) as former:
        assert former == replace(DISK, name="dm-0", number="252:3", size_bytes=4096)
        assert tuple(control.steps) == SHORT_UP
        loaded = control.loaded(FORMER)
    assert (loaded.kind, loaded.length_sectors, loaded.parameters) == ("linear", 8, "/dev/vdb 0")
    assert tuple(control.steps) == (*SHORT_UP, f"remove {FORMER}")


def test_beginning_of_a_disk_whose_device_does_not_come_leaves_none() -> None:
    control = RecordingControl()
    with (
        pytest.raises(KernelError) as refused,
        shortened(control, "data", replace(DISK, name="none"), 4096),
    ):
        pass
    assert refused.value.reason == "kernel.stat"
    assert tuple(control.steps) == (*SHORT_UP, f"remove {FORMER}")


@pytest.mark.parametrize("mounts", [True, False])
def test_luks2_volume_begins_behind_its_header_and_is_unmounted_before_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, *, mounts: bool
) -> None:
    control = RecordingControl("" if mounts else "mount")
    monkeypatch.setattr(stack_module, "add_logon_key", lambda *_: control.step("add key"))
    monkeypatch.setattr(stack_module, "remove_key", lambda _: control.step("remove key"))
    monkeypatch.setattr(luks2, "mount_ext4", lambda *_: control.step("mount"))
    monkeypatch.setattr(luks2, "unmount_kept", lambda _: control.step("unmount"))
    disk, sectors = replace(DISK, size_bytes=PAYLOAD_OFFSET + 4096), PAYLOAD_OFFSET // 512
    control.shown = plan_crypt_target(
        disk.size_bytes, disk.number, "ccinit:data", start_bytes=PAYLOAD_OFFSET
    )
    key = Secret(bytes(64))
    if mounts:
        stack = activate_luks2(control, "data", disk, key, "/run/data")
        assert tuple(control.steps) == (*CRYPT_UP, "mount")
        stack.close()
        assert tuple(control.steps) == (*CRYPT_UP, "mount", "unmount", *DOWN[:3])
    else:
        with pytest.raises(KernelError):
            activate_luks2(control, "data", disk, key, "/run/data")
        assert tuple(control.steps) == (*CRYPT_UP, "mount", *DOWN[:3])
    assert control.loaded(CRYPT).length_sectors == 8
    assert control.loaded(CRYPT).parameters.split()[4] == str(sectors)
