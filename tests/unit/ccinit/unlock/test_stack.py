"""The order of steps up and down, seen by a device-mapper that only writes them down."""

import errno
from collections.abc import Sequence

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.dm import DmControl, DmDevice, DmTarget
from ccinit.secret import Secret
from ccinit.unlock import stack as stack_module
from ccinit.unlock.integrity import IntegrityLayout, plan_memory_layout
from ccinit.unlock.stack import DiskStack, activate_stack

DISK = BlockDevice(
    name="vdb", number="254:16", size_bytes=1 << 20, read_only=False, serial="", holders=()
)
LAYOUT = plan_memory_layout(1 << 20, "/dev/ram0", "1:0")
INTEGRITY = "ccinit-data-integrity"
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
        self._tables: dict[str, DmTarget] = {}
        self._layout: IntegrityLayout = LAYOUT

    def step(self, text: str) -> None:
        self.steps.append(text)
        if text == self.fail_at:
            raise KernelError(errno.ENOMEM, text, "")

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
        parameters = self._layout.to_active_table(DISK.number)
        return (DmTarget(length_sectors=2048, kind="integrity", parameters=parameters),)

    def read_status(self, device: DmDevice) -> tuple[DmTarget, ...]:
        assert device.name == INTEGRITY
        return (DmTarget(length_sectors=2048, kind="integrity", parameters="0 2048 -"),)


def activate(control: RecordingControl, monkeypatch: pytest.MonkeyPatch) -> DiskStack:
    monkeypatch.setattr(stack_module, "add_logon_key", lambda *_: control.step("add key"))
    monkeypatch.setattr(stack_module, "remove_key", lambda _: control.step("remove key"))
    return activate_stack(control, "data", DISK, LAYOUT, Secret(bytes(96)))


def test_stack_goes_up_and_comes_down_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    control = RecordingControl()
    stack = activate(control, monkeypatch)
    assert tuple(control.steps) == UP
    assert stack.size_bytes == 1 << 20
    stack.push(lambda: control.step("unmount"))
    control.steps.clear()
    stack.close()
    assert tuple(control.steps) == ("unmount", *DOWN)
    stack.close()
    assert tuple(control.steps) == ("unmount", *DOWN)


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
