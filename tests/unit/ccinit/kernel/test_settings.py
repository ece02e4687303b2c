"""Small wrappers that write one file or make one call."""

import errno
from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import entropy
from ccinit.kernel.clock import boottime_us
from ccinit.kernel.event_loop import EventLoop, boottime
from ccinit.kernel.modules import load_module
from ccinit.kernel.mount import OPTIONS_LIMIT_BYTES, MountFlag, mount, umount2
from ccinit.kernel.sysctl import write_sysctl


def test_sysctl_name_becomes_a_path_and_value_a_line(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "sysrq").write_text("")
    write_sysctl("kernel.sysrq", "0", root=str(tmp_path))
    assert (tmp_path / "kernel" / "sysrq").read_text() == "0\n"


def test_sysctl_that_does_not_exist_is_a_kernel_error(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as error:
        write_sysctl("kernel.none", "0", root=str(tmp_path))
    assert (error.value.reason, error.value.errno) == ("kernel.sysctl", errno.ENOENT)


def test_clocks_agree() -> None:
    assert abs(boottime_us() / 1e6 - boottime()) < 1


def test_entropy_is_ready_and_random() -> None:
    EventLoop().run(entropy.wait_for_entropy())
    assert len(entropy.random_bytes(32)) == 32
    assert entropy.random_bytes(32) != entropy.random_bytes(32)


def test_entropy_waits_until_the_generator_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((False, False, True))
    monkeypatch.setattr(entropy, "is_ready", lambda: next(answers))
    monkeypatch.setattr(entropy, "POLL_SECONDS", 0.001)
    EventLoop().run(entropy.wait_for_entropy())
    assert next(answers, None) is None


def test_too_many_random_bytes_at_once_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        entropy.random_bytes(257)


def test_module_that_does_not_exist_is_a_kernel_error() -> None:
    with pytest.raises(KernelError) as error:
        load_module("/nonexistent/dm-mod.ko.xz")
    assert (error.value.reason, error.value.errno) == ("kernel.finit_module", errno.ENOENT)


def test_mount_refused_names_the_target() -> None:
    with pytest.raises(KernelError) as error:
        mount("none", "/nonexistent/target", "tmpfs", MountFlag.NODEV)
    assert error.value.reason == "kernel.mount"
    assert "/nonexistent/target" in error.value.detail


def test_mount_options_longer_than_a_page_are_a_bug() -> None:
    with pytest.raises(RuntimeError):
        mount("none", "/nonexistent", "tmpfs", options="x" * (OPTIONS_LIMIT_BYTES + 1))


def test_umount_of_nothing_is_a_kernel_error() -> None:
    with pytest.raises(KernelError) as error:
        umount2("/nonexistent/target")
    assert error.value.reason == "kernel.umount2"
