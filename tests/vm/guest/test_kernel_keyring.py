"""Logon keys in the process keyring."""

import errno
import time
from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.keyring import add_logon_key, remove_key
from ccinit.secret import Secret


def test_logon_key_removed_is_not_listed() -> None:
    serial = add_logon_key("ccinit:listed", Secret(bytes(range(96))))
    assert "ccinit:listed" in Path("/proc/keys").read_text()
    remove_key(serial)
    deadline = time.monotonic() + 60
    # Its content is gone at once; the kernel collects the empty shell later.
    while "ccinit:listed" in Path("/proc/keys").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_logon_key_without_prefix_is_refused() -> None:
    with pytest.raises(KernelError) as error:
        add_logon_key("noprefix", Secret(bytes(96)))
    assert error.value.reason == "kernel.keyring.add"
    assert error.value.errno == errno.EINVAL
