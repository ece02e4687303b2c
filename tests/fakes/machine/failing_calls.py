"""A kernel that refuses one call: each of a piece of work in turn, one run for each.

Only calls that the guest's own code makes are counted, where it makes them: those of libraries and
of the test pass. What gives things back (close, unmount) is not among them, nor what a kernel does
not refuse to its owner (to make a pipe non-blocking).

    for failing in each_failing_call(errno.ENOSPC):
        failing.verify(failing.attempt(work))
        assert …  # nothing is left, and nothing is half done
"""

import builtins
import ctypes
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from errno import errorcode
from itertools import count
from types import FrameType
from typing import Any
from unittest.mock import patch

from ccinit.errors import KernelError
from ccinit.kernel.libc import libc

_OS = (
    "chmod", "chown", "dup", "fchmod", "fchown", "fstat", "fsync", "ftruncate", "getrandom",
    "listdir", "lstat", "makedirs", "memfd_create", "mkdir", "open", "pidfd_open", "pipe2",
    "posix_spawn", "preadv", "pwritev", "read", "readlink", "rename", "replace", "scandir",
    "stat", "statvfs", "write",
)  # fmt: skip
_LIBC = ("mount", "signalfd", "syscall", "unshare")
_OTHERS = ((builtins, "open"), (fcntl, "fcntl"), (fcntl, "ioctl"), (socket, "socketpair"))


class FailingCall:
    """One attempt.

    Attributes:
        name: of the call that was refused, and who has made it; empty if there were fewer.
    """

    def __init__(self, number: int, errno: int) -> None:
        """Args: number: of the call, from 1."""
        self.name = ""
        self._number, self._errno, self._seen = number, errno, 0

    def __repr__(self) -> str:
        return f"<{errorcode[self._errno]} at call {self._number}: {self.name or 'none'}>"

    def attempt(self, work: Callable[[], object]) -> KernelError | None:
        """Do it; return how it failed. Other errors than the kernel's are raised."""
        with self.refusing():
            try:
                work()
            except KernelError as error:
                return error
            except Exception as error:
                error.add_note(repr(self))
                raise
        return None

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse the call if it is made within the block."""
        with ExitStack() as patches:
            for module, name in (*((os, name) for name in _OS), *_OTHERS):
                whole = f"{module.__name__}.{name}"
                call = self._stand_in(whole, getattr(module, name))
                patches.enter_context(patch.object(module, name, call))
            for name in _LIBC:
                numbered = self._stand_in_by_number(f"libc.{name}", getattr(libc, name))
                patches.enter_context(patch.object(libc, name, numbered))
            yield

    def verify(self, failure: KernelError | None) -> None:
        """Accept only that the refused call is what the work's caller is told."""
        if not self.name:
            assert failure is None, (self, failure)
            return
        assert failure is not None, self
        assert failure.errno == self._errno, (self, failure)

    def _stand_in(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*arguments: Any, **options: Any) -> Any:
            if self._is_the_one(name, sys._getframe(1)):
                arguments = ()  # the traceback must not keep what the real call would let go
                raise OSError(self._errno, os.strerror(self._errno))
            return call(*arguments, **options)

        return stand_in

    def _stand_in_by_number(self, name: str, call: Callable[..., int]) -> Callable[..., int]:
        """The C library's own way to say it."""

        def stand_in(*arguments: Any) -> int:
            if self._is_the_one(name, sys._getframe(1)):
                ctypes.set_errno(self._errno)
                return -1
            return call(*arguments)

        return stand_in

    def _is_the_one(self, name: str, caller: FrameType) -> bool:
        module = caller.f_globals.get("__name__", "")
        if not module.startswith("ccinit."):
            return False
        self._seen += 1
        if self._seen != self._number:
            return False
        self.name = f"{name} in {module}:{caller.f_code.co_name}"
        return True


def each_failing_call(*errnos: int) -> Iterator[FailingCall]:
    """Yield one after the other, until a run has had no call left to refuse, for each number."""
    for errno in errnos:
        for number in count(1):
            failing = FailingCall(number, errno)
            yield failing
            if not failing.name:
                break
