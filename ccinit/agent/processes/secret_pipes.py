"""Secrets on their way to a child: each in a pipe of its own, for one job."""

import os
from collections.abc import Mapping

from ccinit.errors import LimitExceededError
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.pipes import open_pipes
from ccinit.secret import Secret

MAX_PIPED_BYTES = 1 << 16
"""The default capacity of a pipe (pipe(7)); nothing is read from it before the child does."""


def open_secret_pipes(secrets: Mapping[str, Secret]) -> dict[str, int]:
    """Return for each name the read end of a pipe that holds just its secret.

    Raises:
        LimitExceededError: `child.secret`, longer than a pipe holds, as a KBS's resource can be.
        KernelError: no more descriptors or memory; none stays open.
    """
    pipes: dict[str, int] = {}
    try:
        for name, secret in secrets.items():
            pipes[name] = _open_secret(secret)
    except BaseException:
        close_all(pipes.values())
        raise
    return pipes


def fill_pipe(writer: int, secret: Secret) -> None:
    """Write a secret to an empty pipe and close the given end: nothing follows it.

    Raises:
        LimitExceededError: `child.secret`, longer than a pipe holds.
        KernelError: `kernel.write`.
    """
    try:
        os.set_blocking(writer, False)
        if os.write(writer, secret.reveal()) != len(secret):
            raise LimitExceededError(
                "child.secret", f"expected at most {MAX_PIPED_BYTES} bytes, found {len(secret)}"
            )
    except BrokenPipeError:
        return  # the reader has ended, and its conversation reports that
    except OSError as error:
        raise kernel_error(error, "write", "pipe of a secret") from error
    finally:
        os.close(writer)


def _open_secret(secret: Secret) -> int:
    """Put a secret in a pipe and return its read end."""
    (pipe,) = open_pipes(1)
    try:
        fill_pipe(pipe.writer, secret)
    except BaseException:
        os.close(pipe.reader)
        raise
    return pipe.reader
