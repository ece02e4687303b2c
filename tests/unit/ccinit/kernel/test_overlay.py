"""What the kernel refuses is an error of its own, and leaves no mount."""

import errno
import os
from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import overlay
from ccinit.kernel.overlay import mount_overlay


def test_refusal_leaves_nothing_mounted(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(KernelError) as refused:
        mount_overlay(str(target), [str(tmp_path / "none")], (("upperdir", str(tmp_path)),))
    # Without root the first call is refused, with it the directory that is not there.
    assert refused.value.errno in {errno.EPERM, errno.ENOENT}
    assert refused.value.reason in {"kernel.fsopen", "kernel.fsconfig"}
    assert not target.is_mount()


def test_mount_has_no_devices_and_no_programs_of_other_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[int, tuple[object, ...]] = {}
    opened: list[int] = []

    def syscall(number: int, *arguments: object, **_names: object) -> int:
        asked[number] = arguments
        if number in {overlay.NR_FSOPEN, overlay.NR_FSMOUNT}:
            opened.append(os.open(tmp_path, os.O_PATH))
            return opened[-1]
        return 0

    monkeypatch.setattr(overlay, "syscall", syscall)
    mount_overlay("/target", ["/lower"], ())
    context, mounted = opened
    assert asked[432] == (context, 1, 2 | 4)  # MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV
    assert asked[429] == (mounted, b"", -100, b"/target", 4)
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
