import json
from pathlib import Path

import pytest

from host_runtime.machine import accelerator
from host_runtime.machine.accelerator import choose_accelerator, has_virtualisation
from host_runtime.machine.qemu import Accelerator
from host_runtime.programs.tools import Tools


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu vmx sse", True), ("svm", True), ("fpu svmx", False), ("", False)]
)
def test_virtualisation_is_one_of_two_flags(tmp_path: Path, flags: str, expected: bool) -> None:  # noqa: FBT001
    (tmp_path / "cpuinfo").write_text(f"model name\t: vmx\nflags\t\t: {flags}\n")
    assert has_virtualisation(tmp_path / "cpuinfo") is expected


def test_cpuinfo_without_flags_has_no_virtualisation(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor: 0\n")
    assert not has_virtualisation(tmp_path / "cpuinfo")


class Host:
    """A host whose KVM does or does not boot a guest, and which counts the tries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, has_flag: bool, works: bool) -> None:
        self.tries = 0
        self._works = works
        monkeypatch.setattr(accelerator, "has_virtualisation", lambda _: has_flag)
        monkeypatch.setattr(accelerator, "_opens", lambda _: True)
        monkeypatch.setattr(accelerator, "boots", self._boots)

    def _boots(self, *_: object) -> bool:
        self.tries += 1
        return self._works


def test_kvm_is_tried_once_per_boot_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(monkeypatch, has_flag=True, works=True)
    for _ in range(2):
        assert choose_accelerator(Tools(), cache=tmp_path / "a/b.json") is Accelerator.KVM
    assert host.tries == 1


def test_answer_of_another_boot_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps({"boot": "earlier", "tools": "None", "accelerator": "kvm"}))
    Host(monkeypatch, has_flag=True, works=False)
    assert choose_accelerator(Tools(), cache=cache) is Accelerator.TCG


@pytest.mark.parametrize("text", ["", "[]", "{", '{"accelerator": "x"}'])
def test_damaged_cache_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "cache").write_text(text)
    Host(monkeypatch, has_flag=True, works=True)
    assert choose_accelerator(Tools(), cache=tmp_path / "cache") is Accelerator.KVM


def test_answer_that_cannot_be_kept_is_found_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(monkeypatch, has_flag=True, works=True)
    (tmp_path / "file").touch()
    assert choose_accelerator(Tools(), cache=tmp_path / "file/cache") is Accelerator.KVM
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def of_nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", of_nobody)
    assert choose_accelerator(Tools()) is Accelerator.KVM
    assert host.tries == 2


def test_processor_without_the_flag_is_not_even_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(monkeypatch, has_flag=False, works=True)
    assert choose_accelerator(Tools(), cache=tmp_path / "cache") is Accelerator.TCG
    assert host.tries == 0
