"""Settings of the kernel: a name becomes a path below /proc/sys."""

import errno
from pathlib import Path

import pytest

from ccinit.errors import KernelError
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


def test_star_is_each_of_what_is_there(tmp_path: Path) -> None:
    for link in ("all", "default", "eth0"):
        (tmp_path / "net" / link).mkdir(parents=True)
        (tmp_path / "net" / link / "accept").write_text("1\n")
    write_sysctl("net.*.accept", "0", root=str(tmp_path))
    assert {path.read_text() for path in tmp_path.glob("net/*/accept")} == {"0\n"}
    (tmp_path / "net" / "eth0" / "accept").unlink()
    with pytest.raises(KernelError):
        write_sysctl("net.*.accept", "0", root=str(tmp_path))


def test_star_that_stands_for_nothing_is_a_kernel_error(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    for name in ("net.*.accept", "none.*.accept"):
        with pytest.raises(KernelError) as error:
            write_sysctl(name, "0", root=str(tmp_path))
        assert (error.value.reason, error.value.errno) == ("kernel.sysctl", errno.ENOENT)
