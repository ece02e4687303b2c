"""Settings of the kernel: all of them, or the boot ends there."""

import resource

import pytest

from ccinit.agent.planes import owner_plane, workload_plane
from ccinit.boot import harden as module
from ccinit.boot.harden import OPEN_FILES, SETTINGS, Setting, harden
from ccinit.errors import KernelError
from ccinit.formats.encoding.fields import MAX_ITEMS
from ccinit.formats.planes.owner_rpc import MAX_CALLS
from ccinit.rpc.server import RpcLimits

LIMITS = [
    f"limit {resource.RLIMIT_CORE} 0",
    f"limit {resource.RLIMIT_NOFILE} {OPEN_FILES}",
    "oom -1000",
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written, in order; the kernel knows no `kernel.unknown`."""
    steps: list[str] = []

    def write(name: str, value: str) -> None:
        if name == "kernel.unknown":
            raise KernelError(2, "sysctl", name)
        steps.append(f"{name}={value}")

    monkeypatch.setattr(module, "write_sysctl", write)
    monkeypatch.setattr(
        module, "set_limit", lambda kind, value: steps.append(f"limit {kind} {value}")
    )
    monkeypatch.setattr(module, "write_oom_score", lambda score: steps.append(f"oom {score}"))
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


def test_pid_1_has_descriptors_for_all_that_it_may_be_asked_for_at_once() -> None:
    """Each number is what the code behind it holds open; twice that leaves room for mistakes."""
    child = 3  # a connection, a channel, a pidfd
    crun = 6  # while it runs: its log's pipe, its pidfd, and copies while it is started
    probe = 3 + crun  # both ends of its output, and an input
    container = 3 + 2 * probe  # two outputs and a pidfd; asked whether it is ready and alive
    attach = 3  # two outputs and an end
    begun_exec = 8 + crun  # four pipes
    owner = owner_plane.MAX_CONNECTIONS * (child + (MAX_CALLS - 1) * attach + begun_exec)
    owner += len(owner_plane.Origin) * owner_plane.MAX_STRANGERS * child
    workload = workload_plane.MAX_CONNECTIONS * (child + 1)  # and as many that are sent away
    others = RpcLimits().connections + 30  # listeners, logs, signals, a loop, the KBS's children
    most = MAX_ITEMS * container + owner + workload + others
    assert most > 1024  # with which the kernel starts PID 1
    assert 2 * most < OPEN_FILES


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
        "kernel.printk=0 0 0 0",
        "kernel.sysrq=0",
        "kernel.yama.ptrace_scope=3",
    ],
)
def test_what_the_threat_model_relies_on_is_among_them(setting: str) -> None:
    assert setting in {f"{one.name}={one.value}" for one in SETTINGS}


def test_the_measured_line_alone_says_what_an_oops_does() -> None:
    # `prod` has `oops=panic`; `test` goes on, so that the text of an oops is sealed
    assert [one.name for one in SETTINGS if "oops" in one.name] == []
