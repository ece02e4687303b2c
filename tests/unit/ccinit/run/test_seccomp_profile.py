"""The workload's system calls: consistent, and closed where it counts (R73)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ccinit.run.seccomp_profile import ALLOWED, REFUSED, workload_seccomp

PROFILE: dict[str, Any] = json.loads(json.dumps(workload_seccomp()))
RULES: list[dict[str, Any]] = PROFILE["syscalls"]
OPERATORS: dict[str, Callable[[int, int, int], bool]] = {
    "SCMP_CMP_EQ": lambda given, value, _: given == value,
    "SCMP_CMP_GT": lambda given, value, _: given > value,
    "SCMP_CMP_MASKED_EQ": lambda given, mask, value: given & mask == value,
}


def answer(name: str, *arguments: int) -> object:
    """Return what the profile says, as libseccomp would: rules are disjoint, or agree."""
    found = set()
    for rule in RULES:
        conditions = rule.get("args", [])
        if name in rule["names"] and all(
            OPERATORS[one["op"]](arguments[one["index"]], one["value"], one["valueTwo"])
            for one in conditions
        ):
            found.add(rule.get("errnoRet", 0))
    assert len(found) <= 1, (name, arguments)
    return found.pop() if found else PROFILE["defaultErrnoRet"]


def test_profile_names_each_call_once() -> None:
    names = [name for _, group in (*ALLOWED, *REFUSED) for name in group.split()]
    assert len(names) == len(set(names))


def test_profile_gives_a_reason_for_each_group() -> None:
    assert all(len(reason) > 5 for reason, _ in (*ALLOWED, *REFUSED))


def test_profile_refuses_what_it_does_not_know() -> None:
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert PROFILE["architectures"] == ["SCMP_ARCH_X86_64"]
    assert answer("a_call_of_the_year_2040") == 38


@pytest.mark.parametrize(
    "name",
    [
        *("mount", "umount2", "move_mount", "fsopen", "open_tree", "pivot_root", "unshare"),
        *("setns", "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter", "keyctl"),
        *("io_uring_register", "add_key", "request_key", "perf_event_open", "ptrace"),
        *("init_module", "finit_module", "kexec_load", "reboot", "open_by_handle_at", "iopl"),
    ],
)
def test_profile_refuses_dangerous_calls(name: str) -> None:
    assert answer(name) == 1


@pytest.mark.parametrize("family", [*range(48), (1 << 32) + 40, (1 << 32) + 38, (1 << 32) + 2])
def test_profile_lets_four_socket_families_pass(family: int) -> None:
    expected = 0 if family in {1, 2, 10, 16} else 97
    assert answer("socket", family, 1, 0) == expected


def test_profile_lets_route_netlink_and_local_pairs_pass_only() -> None:
    assert answer("socket", 16, 3, 9) == 93
    assert answer("socketpair", 1, 1, 0) == 0
    assert answer("socketpair", 40, 1, 0) == 38


@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_profile_lets_no_clone_make_a_namespace(bit: int) -> None:
    threads = 0x3D0F00
    assert answer("clone", threads) == 0
    assert answer("clone", 17) == 0
    assert answer("clone", threads | 1 << bit) == 1


def test_profile_hides_clone3_so_that_flags_are_seen() -> None:
    assert answer("clone3") == 38


def test_profile_allows_known_personalities_only() -> None:
    assert answer("personality", 0xFFFF_FFFF) == 0
    assert answer("personality", 0x0400000) == 38


def test_profile_lets_programs_run() -> None:
    for name in ("read", "write", "execve", "futex", "epoll_wait", "mmap", "exit_group", "openat"):
        assert answer(name) == 0
