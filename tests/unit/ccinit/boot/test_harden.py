"""Settings of the kernel: all of them, or the boot ends there."""

import pytest

from ccinit.boot import harden as module
from ccinit.boot.harden import SETTINGS, Setting, harden
from ccinit.errors import KernelError

LIMITS = ["core limit", "oom"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written, in order; the kernel knows no `kernel.unknown`."""
    steps: list[str] = []

    def write(name: str, value: str) -> None:
        if name == "kernel.unknown":
            raise KernelError(2, "sysctl", name)
        steps.append(f"{name}={value}")

    monkeypatch.setattr(module, "write_sysctl", write)
    monkeypatch.setattr(module, "set_core_limit", lambda: steps.append(LIMITS[0]))
    monkeypatch.setattr(module, "protect_from_oom", lambda: steps.append(LIMITS[1]))
    return steps


def test_every_setting_is_written_and_the_limits_of_pid_1(written: list[str]) -> None:
    harden()
    assert written == [f"{one.name}={one.value}" for one in SETTINGS] + LIMITS


def test_setting_that_the_kernel_refuses_ends_the_boot(written: list[str]) -> None:
    known, unknown = Setting("kernel.sysrq", "0", ""), Setting("kernel.unknown", "1", "")
    with pytest.raises(KernelError) as refused:
        harden((known, unknown, known))
    assert refused.value.reason == "kernel.sysctl"
    assert written == ["kernel.sysrq=0"]
    written.clear()
    harden((known,))
    assert written == ["kernel.sysrq=0", *LIMITS]


def test_each_setting_is_made_once() -> None:
    assert len({one.name for one in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize(
    "setting",
    [
        "fs.epoll.max_user_watches=9223372036854775807",  # else a container can use up PID 1's
        "user.max_user_namespaces=0",  # else a container without capabilities has them all
        "kernel.io_uring_disabled=2",  # else system calls pass by seccomp
        "kernel.core_pattern=",  # else the host's disk could get memory
        "kernel.kexec_load_disabled=1",
        "kernel.panic_on_oops=1",
        "kernel.printk=0 0 0 0",
        "kernel.sysrq=0",
        "kernel.yama.ptrace_scope=3",
    ],
)
def test_what_the_threat_model_relies_on_is_among_them(setting: str) -> None:
    assert setting in {f"{one.name}={one.value}" for one in SETTINGS}
