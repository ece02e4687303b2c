"""Filters, run on an interpreter of classic BPF: what each system call of a plan gets."""

import errno
from typing import Any

import pytest

from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import KernelError
from ccinit.kernel import seccomp
from ccinit.kernel.seccomp import (
    INSTRUCTION,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS,
    SYSCALLS,
    ArgumentRule,
    SyscallPolicy,
    load_filter,
    plan_filter,
)
from ccinit.values import replace
from tests.fakes.classic_bpf import run_filter

AUDIT_ARCH_I386 = 0x4000_0003
BPF_MAXINSNS = 4096
X32_SYSCALL_BIT = 0x4000_0000
TRIED_BY_ASYNCIO = {(Role.NET, 434): SECCOMP_RET_ERRNO | errno.EPERM}
POLICY = SyscallPolicy(
    allowed=frozenset({"read", "write"}),
    refused={"openat": errno.EACCES},
    rules={
        "socket": ArgumentRule(argument=0, values=(2, 10), errno=errno.EAFNOSUPPORT),
        "clone": ArgumentRule(argument=0, mask=0x10000, values=(0x10000,)),
    },
)


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        pytest.param("read", (), SECCOMP_RET_ALLOW, id="allowed"),
        pytest.param("openat", (), SECCOMP_RET_ERRNO | errno.EACCES, id="refused"),
        pytest.param("execve", (), SECCOMP_RET_KILL_PROCESS, id="not named"),
        pytest.param("socket", (2,), SECCOMP_RET_ALLOW, id="first value"),
        pytest.param("socket", (10,), SECCOMP_RET_ALLOW, id="second value"),
        pytest.param(
            "socket", (40,), SECCOMP_RET_ERRNO | errno.EAFNOSUPPORT, id="other value, errno"
        ),
        pytest.param("clone", (0x10F00,), SECCOMP_RET_ALLOW, id="masked bit set"),
        pytest.param("clone", (0x00F00,), SECCOMP_RET_KILL_PROCESS, id="masked bit clear"),
    ],
)
def test_filter_call_gets_its_answer(name: str, arguments: tuple[int, ...], result: int) -> None:
    assert run_filter(plan_filter(POLICY), SYSCALLS[name], arguments) == result


def test_filter_compares_the_half_of_an_argument_that_the_kernel_takes() -> None:
    program = plan_filter(POLICY)
    assert run_filter(program, SYSCALLS["socket"], (2 | 1 << 32,)) == SECCOMP_RET_ALLOW


@pytest.mark.parametrize("role", list(Role))
def test_filter_of_every_role_kills_foreign_architectures(role: Role) -> None:
    program = plan_filter(RIGHTS[role].syscalls)
    assert run_filter(program, 0, arch=AUDIT_ARCH_I386) == SECCOMP_RET_KILL_PROCESS
    for number in SYSCALLS.values():
        assert run_filter(program, X32_SYSCALL_BIT | number) == SECCOMP_RET_KILL_PROCESS
    assert run_filter(program, -1) == SECCOMP_RET_KILL_PROCESS
    assert run_filter(program, 0) == SECCOMP_RET_ALLOW


@pytest.mark.parametrize("role", list(Role))
def test_filter_of_every_role_lets_only_named_numbers_through(role: Role) -> None:
    policy = RIGHTS[role].syscalls
    program = plan_filter(policy)
    named = {SYSCALLS[name] for name in policy.allowed}
    questioned = {SYSCALLS[name] for name in (*policy.rules, *policy.refused)}
    for number in range(1024):
        result = run_filter(program, number)
        if number in named:
            assert result == SECCOMP_RET_ALLOW
        elif number not in questioned:
            assert result == SECCOMP_RET_KILL_PROCESS


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(57, id="fork"),
        pytest.param(58, id="vfork"),
        pytest.param(62, id="kill"),
        pytest.param(101, id="ptrace"),
        pytest.param(105, id="setuid"),
        pytest.param(155, id="pivot_root"),
        pytest.param(165, id="mount"),
        pytest.param(175, id="init_module"),
        pytest.param(250, id="keyctl"),
        pytest.param(272, id="unshare"),
        pytest.param(298, id="perf_event_open"),
        pytest.param(310, id="process_vm_readv"),
        pytest.param(313, id="finit_module"),
        pytest.param(321, id="bpf"),
        pytest.param(323, id="userfaultfd"),
        pytest.param(425, id="io_uring_setup"),
        pytest.param(434, id="pidfd_open"),
        pytest.param(438, id="pidfd_getfd"),
    ],
)
def test_filter_of_no_role_allows_a_way_out(role: Role, number: int) -> None:
    program = plan_filter(RIGHTS[role].syscalls)
    result = TRIED_BY_ASYNCIO.get((role, number), SECCOMP_RET_KILL_PROCESS)
    for arguments in ((), (0xFFFF_FFFF,) * 6):
        assert run_filter(program, number, arguments) == result


@pytest.mark.parametrize("role", list(Role))
def test_filter_of_no_role_relies_on_the_vdso(role: Role) -> None:
    """OpenSSL and mkfs.erofs ask by gettimeofday, which the vDSO may pass on to the kernel."""
    program = plan_filter(RIGHTS[role].syscalls)
    for name in ("clock_gettime", "gettimeofday", "getrandom"):
        assert run_filter(program, SYSCALLS[name]) == SECCOMP_RET_ALLOW


def test_filter_of_every_role_fits_the_kernel_and_its_jumps() -> None:
    for rights in RIGHTS.values():
        program = plan_filter(rights.syscalls)
        assert len(program) // INSTRUCTION.size <= BPF_MAXINSNS


@pytest.mark.parametrize("unambiguous", ["allowed", "refused", "rules"])
def test_plan_with_two_answers_for_a_call_is_a_bug(unambiguous: str) -> None:
    policy = SyscallPolicy(
        allowed=frozenset({"read"}),
        refused={"read": errno.EPERM},
        rules={"read": ArgumentRule(argument=0, values=(0,))},
    )
    nothing = type(getattr(policy, unambiguous))()
    with pytest.raises(RuntimeError, match="two answers"):
        plan_filter(replace(policy, **{unambiguous: nothing}))


class Kernel:
    """What a kernel answers, and what it was asked for."""

    def __init__(self, result: int) -> None:
        self.result = result
        self.asked: list[tuple[int, ...]] = []

    def syscall(self, *arguments: Any) -> int:
        self.asked.append(tuple(argument.value for argument in arguments[:3]))
        return self.result


def test_filter_that_is_not_in_force_in_every_thread_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number of a thread says that it could not follow (SECCOMP_FILTER_FLAG_TSYNC)."""
    program = plan_filter(POLICY)
    for result in (-1, 4711):
        monkeypatch.setattr(seccomp, "libc", Kernel(result))
        with pytest.raises(KernelError) as refused:
            load_filter(program)
        assert refused.value.reason == "kernel.seccomp"
    monkeypatch.setattr(seccomp, "libc", willing := Kernel(0))
    load_filter(program)
    assert willing.asked == [(317, 1, 1)]  # SECCOMP_SET_MODE_FILTER
