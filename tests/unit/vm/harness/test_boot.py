"""When the test guest is started once more: for an end that was QEMU's alone, and once."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.vm.harness import boot
from tests.vm.harness.boot import BootResult, QemuFailedError, boot_guest, failure_of

WORDS = "qemu-system-x86_64: ../system/physmem.c:1: iotlb_to_section: Assertion `x < y' failed."
ABORTED = -signal.SIGABRT
GOOD = BootResult(reports={}, console="", seconds=1.0)


def test_assertion_of_qemus_before_the_guests_first_word_is_its_own_failure() -> None:
    failure = failure_of(ABORTED, f"a warning\n{WORDS}\n", b"")
    assert isinstance(failure, QemuFailedError)
    assert str(failure) == f"ended by itself before the guest's first word: {WORDS}"


@pytest.mark.parametrize(
    ("status", "log", "said"),
    [
        pytest.param(ABORTED, WORDS, b"[", id="the guest ran"),
        pytest.param(ABORTED, "out of memory", b"", id="no assertion"),
        pytest.param(-signal.SIGSEGV, WORDS, b"", id="another signal"),
        pytest.param(1, WORDS, b"", id="an exit"),
    ],
)
def test_every_other_failure_may_be_the_guests(status: int, log: str, said: bytes) -> None:
    failure = failure_of(status, log, said)
    assert type(failure) is RuntimeError
    assert str(failure) == f"QEMU ended with {status}: {log}"


class Qemu:
    """What its runs come to, one after the other, and what was counted."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.counted: list[str] = []

    def run(self, *_: object) -> None:
        end = self.ends.pop(0)
        if end is not None:
            raise end

    def count(self, name: str, _seconds: float) -> None:
        self.counted.append(name)


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Qemu]:
    """A guest whose runs of QEMU end as the test says."""

    def ending(*ends: BaseException | None) -> Qemu:
        made, tools = Qemu(*ends), cast("Any", None)

        def once(_nodes: object, name: str, _modules: object, **_kinds: object) -> BootResult:
            boot._count_qemu(name, tools, Path(), Path())
            return GOOD

        monkeypatch.setattr(boot, "_boot_once", once)
        monkeypatch.setattr(boot, "_run_qemu", made.run)
        monkeypatch.setattr(boot, "record_boot", made.count)
        return made

    return ending


def test_guest_of_a_qemu_that_failed_is_started_once_more_and_both_are_told(
    qemu: Callable[..., Qemu],
) -> None:
    runs = qemu(QemuFailedError("ended by itself"), None)
    assert boot_guest(("a::b",), "tests") is GOOD
    assert runs.counted == ["tests: ended by itself", "tests"]


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        pytest.param((QemuFailedError("a"), QemuFailedError("b"), None), 2, id="twice"),
        pytest.param((RuntimeError("QEMU ended with 1"), None), 1, id="otherwise"),
    ],
)
def test_guest_that_fails_otherwise_or_again_has_failed(
    qemu: Callable[..., Qemu], ends: tuple[BaseException | None, ...], count: int
) -> None:
    runs = qemu(*ends)
    with pytest.raises(RuntimeError):
        boot_guest(("a::b",), "tests")
    assert len(runs.counted) == count


def test_guest_that_runs_is_started_once(qemu: Callable[..., Qemu]) -> None:
    runs = qemu(None)
    assert boot_guest(("a::b",), "tests") is GOOD
    assert runs.counted == ["tests"]
