import errno
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from ccinit.agent.figures import EXECUTED_VARIABLE
from ccinit.errors import CcinitError, KernelError, VerificationError
from ccinit.formats.cmdline import Carrier
from ccinit.formats.disk.verity import Salt, build_hash_tree
from ccinit.init import stage0
from ccinit.init.module_order import ModuleGroup
from ccinit.init.phases import ENVIRONMENT, INTERPRETER
from ccinit.init.stage0 import (
    delete_tree,
    has_platform,
    main,
    prepare_kernel,
    select_root_disk,
)
from ccinit.kernel import power
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.mount import MountFlag
from tests.faults.plugin import FaultSeen

DATA = b"".join(b"%4096d" % index for index in range(5))
PARAMETERS, TREE = build_hash_tree([DATA], Salt(bytes(32)))


def disk(name: str, size_bytes: int = len(DATA + TREE)) -> BlockDevice:
    return BlockDevice(
        name=name, number="254:0", size_bytes=size_bytes, read_only=True, serial="", holders=()
    )


def attach(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    def read_direct(node: str, offset: int, length: int) -> bytes:
        content = contents[node]
        if offset + length > len(content):
            raise KernelError(5, "block.read", node)
        return content[offset : offset + length]

    monkeypatch.setattr(stage0, "read_direct", read_direct)


@pytest.fixture
def signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `sev-guest` and `cpuinfo` are what the kernel shows: no platform yet."""
    (tmp_path / "cpuinfo").write_bytes(b"processor\t: 0\nflags\t\t: fpu tsc hypervisor\n")
    monkeypatch.setattr(stage0, "CPUINFO", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(stage0, "SEV_GUEST_DEVICE", str(tmp_path / "sev-guest"))
    return tmp_path


def test_platform_is_there_if_the_kernel_shows_it(signs: Path) -> None:
    assert not has_platform("sev-guest")
    assert not has_platform("tdx-guest")
    (signs / "sev-guest").mkdir()
    assert has_platform("sev-guest")
    assert not has_platform("tdx-guest")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(b"fpu tdx_guest tsc", True, id="within"),
        pytest.param(b"fpu tdx_guest", True, id="last"),
        pytest.param(b"fpu tdx_guest_2 no_tdx_guest", False, id="other-words"),
    ],
)
def test_driver_of_tdx_is_loaded_where_the_processor_has_it(
    signs: Path, flags: bytes, *, expected: bool
) -> None:
    (signs / "cpuinfo").write_bytes(b"processor\t: 0\nflags\t\t: " + flags + b"\nbugs\t\t:\n\n")
    assert has_platform("tdx-guest") is expected


def test_root_disk_is_found_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    attach(monkeypatch, {"/dev/vda": bytes(1 << 20), "/dev/vdb": DATA + TREE})
    assert select_root_disk([disk("vda"), disk("vdb")], PARAMETERS).name == "vdb"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(DATA + bytes(4096), id="other-tree"),
        pytest.param(DATA, id="unreadable"),
        pytest.param(TREE + DATA, id="tree-elsewhere"),
    ],
)
def test_r12_r13_root_disk_that_does_not_verify_is_missing(
    monkeypatch: pytest.MonkeyPatch, content: bytes, fault_seen: FaultSeen
) -> None:
    attach(monkeypatch, {"/dev/vda": content})
    with pytest.raises(VerificationError) as error:
        select_root_disk([disk("vda")], PARAMETERS)
    assert error.value.reason == "root.missing"
    fault_seen.guest(error.value.reason)


def test_root_disk_too_small_for_its_tree_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    attach(monkeypatch, {})
    with pytest.raises(VerificationError) as error:
        select_root_disk([disk("vda", len(DATA))], PARAMETERS)
    assert error.value.reason == "root.missing"


def test_two_root_disks_are_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    attach(monkeypatch, {"/dev/vda": DATA + TREE, "/dev/vdb": DATA + TREE})
    with pytest.raises(VerificationError) as error:
        select_root_disk([disk("vda"), disk("vdb")], PARAMETERS)
    assert error.value.reason == "root.ambiguous"


def test_delete_tree_leaves_only_the_directory(tmp_path: Path) -> None:
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "file").write_text("x")
    (tmp_path / "outside").symlink_to("/")
    delete_tree(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert Path("/").exists()


def test_delete_tree_does_not_cross_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "file").write_text("x")
    (tmp_path / "own").write_text("x")
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        status = list(real(path))
        status[2] += path.endswith("/mounted")
        return os.stat_result(status)

    monkeypatch.setattr(os, "lstat", lstat)
    delete_tree(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mounted"]
    assert (tmp_path / "mounted" / "file").exists()


class MachineResetError(BaseException):
    """What stands for the machine's end in these tests."""


@pytest.mark.parametrize("cause", [VerificationError("boot.cmdline", "x"), KeyboardInterrupt()])
def test_any_failure_ends_in_a_silent_reset(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], cause: BaseException
) -> None:
    def fail() -> None:
        raise cause

    def reboot() -> None:
        raise MachineResetError

    monkeypatch.setattr(stage0, "silence", lambda: None)
    monkeypatch.setattr(stage0, "prepare_kernel", fail)
    monkeypatch.setattr(power, "reboot", reboot)
    with pytest.raises(MachineResetError):
        main()
    assert capfd.readouterr() == ("", "")


LINE = b"quiet ccinit.carrier=ram panic=-1"
UP = ["mount /proc", "mount /sys", "mount /dev", "hurry", "kernel.modprobe="]
CLOSED = "kernel.modules_disabled=1"


class Kernel:
    """A kernel with two modules to load; notes what is done, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.refused = ""
        self.files = {
            "/proc/cmdline": LINE + b"\n",
            "/ccinit.cmdline": LINE,
            "/modules/order": b"dm-mod.ko.xz\nbrd.ko.xz rd_nr=4\n",
            "/modules/order.sev-guest": b"tsm.ko\nsev-guest.ko\n",
            "/modules/order.tdx-guest": b"tsm.ko\ntdx-guest.ko\n",
            "/proc/cpuinfo": b"flags : fpu aes\n",
        }
        monkeypatch.setattr(stage0, "mount", self.mount)
        monkeypatch.setattr(stage0, "expedite_grace_periods", self.hurry)
        monkeypatch.setattr(stage0, "load_modules", self.load)
        monkeypatch.setattr(stage0, "_read", lambda path: self.files[path])
        monkeypatch.setattr(stage0, "write_sysctl", self.write)

    def mount(self, _source: str, target: str, kind: str, flags: MountFlag, *_: str) -> None:
        assert flags & (MountFlag.NOSUID | MountFlag.NOEXEC) == (
            MountFlag.NOSUID | MountFlag.NOEXEC
        )
        assert kind in {"proc", "sysfs", "devtmpfs"}
        self.steps.append(f"mount {target}")

    def write(self, name: str, value: str) -> None:
        self.steps.append(f"{name}={value}")

    def hurry(self, *, on: bool) -> None:
        assert on
        self.steps.append("hurry")

    def load(self, groups: Sequence[ModuleGroup], directory: str, processes: int) -> None:
        assert processes > 1
        for module in chain.from_iterable(groups):
            path = f"{directory}/{module.file}"
            self.steps.append(f"{path} {module.parameters}".rstrip())
            if path == self.refused:
                raise KernelError(errno.EKEYREJECTED, "finit_module", path)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_kernel_is_closed_behind_the_listed_modules(kernel: Kernel) -> None:
    location = prepare_kernel()
    assert location.carrier is Carrier.RAM
    everywhere = [*UP, "/modules/dm-mod.ko.xz", "/modules/brd.ko.xz rd_nr=4"]
    assert kernel.steps == [*everywhere, CLOSED]
    kernel.steps.clear()
    kernel.files["/proc/cpuinfo"] = b"flags : fpu tdx_guest aes\n"
    prepare_kernel()
    assert kernel.steps == [*everywhere, "/modules/tsm.ko", "/modules/tdx-guest.ko", CLOSED]


@pytest.mark.parametrize(
    ("file", "content", "reason", "steps"),
    [
        ("/proc/cmdline", LINE + b" x\n", "boot.cmdline", UP[:1]),
        ("/proc/cmdline", b"rdinit=/bin/sh " + LINE, "boot.cmdline", UP[:1]),
        ("/modules/order", b"../x.ko\n", "modules.order", UP),
    ],
)
def test_r01_line_is_compared_before_anything_is_seen_or_loaded(
    kernel: Kernel,
    file: str,
    content: bytes,
    reason: str,
    steps: list[str],
    fault_seen: FaultSeen,
) -> None:
    kernel.files[file] = content
    with pytest.raises(CcinitError) as refused:
        prepare_kernel()
    assert (refused.value.reason, kernel.steps) == (reason, steps)
    if file == "/proc/cmdline":
        fault_seen.guest(refused.value.reason)


def test_module_that_the_kernel_refuses_ends_the_boot(kernel: Kernel) -> None:
    kernel.refused = "/modules/dm-mod.ko.xz"
    with pytest.raises(KernelError) as refused:
        prepare_kernel()
    assert refused.value.reason == "kernel.finit_module"
    assert kernel.steps == [*UP, "/modules/dm-mod.ko.xz"]


def test_stage_0_and_pid_1_agree_on_what_each_has_of_its_own() -> None:
    """Neither loads the other's module: the initrd has no agent, PID 1 no device-mapper yet."""
    assert stage0.PID1 == INTERPRETER
    assert stage0.PID1_ENVIRONMENT.items() <= ENVIRONMENT.items()
    assert stage0.EXECUTED_VARIABLE == EXECUTED_VARIABLE
