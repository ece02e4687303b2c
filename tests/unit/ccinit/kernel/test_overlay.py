"""What the kernel refuses is an error of its own, and leaves no mount."""

import errno
from pathlib import Path

import pytest

from ccinit.errors import KernelError
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
