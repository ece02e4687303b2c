"""The workload's system calls: consistent, and closed where it counts (R73)."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from ccinit.formats.pod.seccomp import Seccomp
from ccinit.formats.pod.system_calls import FILTERED, FORBIDDEN, KNOWN
from ccinit.run.seccomp_profile import ALLOWED, REFUSED_UNASKED, workload_seccomp

DEFAULT = Seccomp()
GROUPS = (*ALLOWED, *FORBIDDEN, *REFUSED_UNASKED)
OPERATORS: dict[str, Callable[[int, int, int], bool]] = {
    "SCMP_CMP_EQ": lambda given, value, _: given == value,
    "SCMP_CMP_LE": lambda given, value, _: given <= value,
    "SCMP_CMP_GT": lambda given, value, _: given > value,
    "SCMP_CMP_MASKED_EQ": lambda given, mask, value: given & mask == value,
}


@cache
def profile(changes: Seccomp = DEFAULT) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(workload_seccomp(changes)))
    return made


def answer(name: str, *arguments: int, changes: Seccomp = DEFAULT) -> object:
    """Return what the profile says, as libseccomp would: rules are disjoint, or agree."""
    found = set()
    made = profile(changes)
    for rule in made["syscalls"]:
        conditions = rule.get("args", [])
        if name in rule["names"] and all(
            OPERATORS[one["op"]](arguments[one["index"]], one["value"], one["valueTwo"])
            for one in conditions
        ):
            found.add(rule.get("errnoRet", 0))
    assert len(found) <= 1, (name, arguments)
    return found.pop() if found else made["defaultErrnoRet"]


def test_profile_names_each_call_once() -> None:
    names = [name for _, group in (*GROUPS, *FILTERED) for name in group.split()]
    assert len(names) == len(set(names))
    # by 32-bit programs only, and too young for the library
    assert set(names) - set(KNOWN.split()) == {"socketcall", "open_tree_attr"}


def test_profile_gives_a_reason_for_each_group() -> None:
    assert all(len(reason) > 5 for reason, _ in (*GROUPS, *FILTERED))


def test_profile_refuses_what_it_does_not_know() -> None:
    assert profile()["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile()["architectures"] == ["SCMP_ARCH_X86_64"]
    assert answer("a_call_of_the_year_2040") == 38


@pytest.mark.parametrize(
    "name",
    [
        *("mount", "umount2", "move_mount", "fsopen", "open_tree", "pivot_root", "unshare"),
        *("setns", "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter", "keyctl"),
        *("io_uring_register", "add_key", "request_key", "perf_event_open", "ptrace"),
        *("init_module", "finit_module", "kexec_load", "reboot", "open_by_handle_at", "iopl"),
        "ustat",
    ],
)
def test_r73_profile_refuses_dangerous_calls(name: str) -> None:
    assert answer(name) == 1


@pytest.mark.parametrize("family", [*range(48), (1 << 32) + 40, (1 << 32) + 38, (1 << 32) + 2])
def test_profile_lets_four_socket_families_pass(family: int) -> None:
    expected = 0 if family in {1, 2, 10, 16} else 97
    assert answer("socket", family, 1, 0) == expected


def test_profile_lets_route_netlink_and_local_pairs_pass_only() -> None:
    assert answer("socket", 16, 3, 9) == 93
    assert answer("socketpair", 1, 1, 0) == 0
    assert answer("socketpair", 40, 1, 0) == 38


@pytest.mark.parametrize("family", [2, 10])
@pytest.mark.parametrize("flags", [0, 0o4000, 0o2000000, 1 << 32])
def test_profile_lets_no_raw_socket_have_the_neighbours_tcp(family: int, flags: int) -> None:
    stream, datagram, raw, tcp = 1, 2, 3, 6
    for kind in (stream, datagram):
        assert all(answer("socket", family, kind | flags, number) == 0 for number in (0, tcp, 262))
    for protocol in (*range(20), *range(240, 512)):
        expected = 1 if protocol == tcp else 0
        assert answer("socket", family, raw | flags, protocol) == expected, protocol
    for protocol in (512, (1 << 32) + tcp, (1 << 64) - 1):
        assert answer("socket", family, raw | flags, protocol) == 93
    # SOCK_PACKET, with which the kernel makes an AF_INET socket one of AF_PACKET, is 10
    for kind in (0, *range(4, 16)):
        assert answer("socket", family, kind | flags, 0) == 94, kind


def test_profile_lets_no_socket_repair_its_way_to_a_port_that_is_taken() -> None:
    tcp, repair = 6, 19
    assert [answer("setsockopt", 3, tcp, option, 0, 4) for option in range(256)] == [
        1 if option == repair else 0 for option in range(256)
    ]
    for level in {*range(512)} - {tcp}:
        assert answer("setsockopt", 3, level, repair, 0, 4) == 0, level
    for high in (1 << 31, 1 << 32, 1 << 63):
        assert answer("setsockopt", 3, tcp + high, repair, 0, 4) == 92
        assert answer("setsockopt", 3, tcp, repair + high, 0, 4) == 92
        assert answer("setsockopt", 3, tcp + high, repair + high, 0, 4) == 92
    assert answer("setsockopt", 3, 1, 1 << 20, 0, 4) == 0


@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_profile_lets_no_clone_make_a_namespace(bit: int) -> None:
    threads = 0x3D0F00
    assert answer("clone", threads) == 0
    assert answer("clone", 17) == 0
    assert answer("clone", threads | 1 << bit) == 1


def test_profile_lets_no_clone_make_a_child_of_pid_1() -> None:
    parent = 0x8000
    assert answer("clone", 17) == 0
    assert answer("clone", 17 | parent) == 1
    assert answer("clone", 17 | parent | 1 << 17) == 1


def test_profile_hides_clone3_so_that_flags_are_seen() -> None:
    assert answer("clone3") == 38


def test_profile_allows_known_personalities_only() -> None:
    assert answer("personality", 0xFFFF_FFFF) == 0
    assert answer("personality", 0x0400000) == 38


@pytest.mark.parametrize("name", ["setxattr", "lsetxattr", "fsetxattr"])
def test_profile_lets_no_attribute_be_larger_than_a_disk_takes(name: str) -> None:
    for size in (0, 1, 4096):
        assert answer(name, 0, 0, 0, size, 0) == 0
    for size in (4097, 65536, (1 << 32) + 1):
        assert answer(name, 0, 0, 0, size, 0) == 7
    assert answer(name, 0, 0, 0, 1, 0, changes=Seccomp(deny=(name,))) == 1


def test_profile_lets_programs_run() -> None:
    for name in ("read", "write", "execve", "futex", "epoll_wait", "mmap", "exit_group", "openat"):
        assert answer(name) == 0


@pytest.mark.parametrize("name", ["mbind", "adjtimex", "name_to_handle_at", "lsm_list_modules"])
def test_call_that_the_manifest_allows_passes_and_nothing_else_does(name: str) -> None:
    changes = Seccomp(allow=(name,))
    assert answer(name) != 0
    assert answer(name, changes=changes) == 0
    others = [*KNOWN.split(), "a_call_of_the_year_2040"]
    others.remove(name)
    for other in others:
        assert answer(other, 40, 0, 0, 0, changes=changes) == answer(other, 40, 0, 0, 0), other


@pytest.mark.parametrize("name", ["chmod", "socket", "clone", "personality", "socketpair"])
def test_call_that_the_manifest_denies_fails_whatever_its_arguments(name: str) -> None:
    changes = Seccomp(deny=(name,))
    assert answer(name, 1, 0, 0) == 0 or name == "personality"
    for argument in (0, 1, 2, 16, 40, 0xFFFF_FFFF):
        assert answer(name, argument, 0, 0, changes=changes) == 1
    assert answer("read", changes=changes) == answer("openat", changes=changes) == 0


def test_call_that_is_not_to_be_had_keeps_its_answer_when_it_is_denied() -> None:
    changes = Seccomp(deny=("clone3", "tuxcall", "mount"))
    assert [answer(name, changes=changes) for name in changes.deny] == [38, 38, 1]


def test_allowing_what_is_allowed_changes_nothing() -> None:
    assert profile(Seccomp(allow=("read", "openat"))) == profile()


def test_rule_without_a_name_is_never_made() -> None:
    every_time = next(names for _, names in ALLOWED if "clock_getres" in names)
    made = profile(Seccomp(deny=tuple(every_time.split())))
    assert all(rule["names"] for rule in made["syscalls"])
