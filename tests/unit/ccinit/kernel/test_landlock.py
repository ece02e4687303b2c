"""Landlock fails closed: a kernel that cannot do all of it is refused."""

import os
import struct

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import landlock
from ccinit.kernel.landlock import ALL_ACCESS, FILE_ACCESS, READ, REQUIRED_ABI, WRITE, Access


def with_abi(monkeypatch: pytest.MonkeyPatch, abi: int) -> list[int]:
    """Let the kernel answer `abi`; return the list of calls that follow."""
    calls: list[int] = []

    def syscall(number: int, *_arguments: object, **_names: object) -> int:
        calls.append(number)
        return abi

    monkeypatch.setattr(landlock, "syscall", syscall)
    return calls


@pytest.mark.parametrize("abi", [REQUIRED_ABI, REQUIRED_ABI + 1])
def test_abi_new_enough_is_taken(monkeypatch: pytest.MonkeyPatch, abi: int) -> None:
    with_abi(monkeypatch, abi)
    assert landlock.require_abi() == abi


def test_older_abi_is_refused_before_anything_is_restricted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = with_abi(monkeypatch, REQUIRED_ABI - 1)
    with pytest.raises(KernelError) as error:
        landlock.restrict({"/usr": READ}, connect=False)
    assert error.value.reason == "kernel.landlock_create_ruleset"
    assert calls == [landlock.NR_CREATE_RULESET]


def test_every_right_is_handled_and_none_makes_devices() -> None:
    assert sum(Access) == ALL_ACCESS
    for access in (READ, WRITE):
        assert not access & (Access.MAKE_CHAR | Access.MAKE_BLOCK | Access.EXECUTE)
    assert not FILE_ACCESS & Access.READ_DIR


@pytest.mark.parametrize(("connect", "handled"), [(False, 0b11), (True, 0b01)])
def test_kernel_is_asked_to_refuse_what_no_rule_grants(
    monkeypatch: pytest.MonkeyPatch, handled: int, *, connect: bool
) -> None:
    """LANDLOCK_ACCESS_FS_*, LANDLOCK_ACCESS_NET_* and LANDLOCK_SCOPE_* of Linux 6.12, all of them;
    but for connections, where those may be made."""
    calls: list[tuple[object, ...]] = []
    ruleset = os.open("/", os.O_PATH)

    def syscall(*arguments: object, **_names: object) -> int:
        calls.append(arguments)
        return REQUIRED_ABI if arguments[1] is None else ruleset

    monkeypatch.setattr(landlock, "syscall", syscall)
    landlock.restrict({}, connect=connect)
    attributes = struct.pack("<QQQ", (1 << 16) - 1, handled, 0b11)
    assert calls == [(444, None, 0, 1), (444, attributes, 24, 0), (446, ruleset, 0)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ruleset)
