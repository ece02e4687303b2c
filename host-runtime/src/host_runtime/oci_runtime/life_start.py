"""Starts the process that is a container's life; see `life` for its side."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ccinit.errors import ChildError, DeadlineError
from host_runtime.oci_runtime.life import GO, READY
from host_runtime.programs.process import python_command, python_environment

_READY_SECONDS: Final = 300.0  # ends a hang: each step of a boot has a shorter deadline of its own
_FOLDERS: Final = ("XDG_RUNTIME_DIR", "TMPDIR", "HOME", "XDG_CACHE_HOME")


@contextmanager
def started_life(
    module: str,
    folder: Path,
    descriptors: tuple[int, ...] = (),
    *,
    oom_score_adj: int | None = None,
) -> Iterator[int]:
    """Start a container's life, a program of ours; it is ended if the caller fails.

    It inherits `descriptors`. It goes on only once it is told that the caller has done its part, so
    if this process is killed before that, it ends by itself. `oom_score_adj` is the bundle's.

    Raises:
        ChildError: it does not begin, with its reason; `process.ended`: it has ended meanwhile.
        DeadlineError: `process.ready`: it neither begins nor says why not.
    """
    ours, its = socket.socketpair()
    command = (*python_command(module), str(folder))
    if oom_score_adj is not None:
        command = (*command, f"--oom-score-adj={oom_score_adj}")
    named = {name: os.environ.get(name) for name in _FOLDERS}
    # Engines may name folders that do not exist yet.
    inherited = {name: path for name, path in named.items() if path and Path(path).is_dir()}
    with ours:
        with its:
            process = subprocess.Popen(
                (*command, "--creator", str(its.fileno())),
                stdin=subprocess.DEVNULL,
                env={**inherited, **python_environment()},
                pass_fds=(its.fileno(), *descriptors),
                cwd="/",
                start_new_session=True,
            )
        try:
            _require_ready(ours)
            yield process.pid
            _let_go(ours)
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = 0  # it is not ours any more: whoever reaps for the container has it


def _require_ready(life: socket.socket) -> None:
    life.settimeout(_READY_SECONDS)
    try:
        with life.makefile("rb") as answers:
            answer = answers.readline()
    except TimeoutError as error:
        raise DeadlineError(
            "process.ready",
            f"the container's process is not ready after {_READY_SECONDS:g} s, and was killed:"
            " the container's log says how far it came; is this host out of memory or processors?",
        ) from error
    life.settimeout(None)
    try:
        told = json.loads(answer)
        if told.get(READY):
            return
        reason, detail = str(told["reason"]), str(told["detail"])
    except (ValueError, KeyError, AttributeError):
        reason, detail = "process.ended", "the container's process ended without a word"
    raise ChildError(reason, detail)


def _let_go(life: socket.socket) -> None:
    try:
        life.sendall(GO)
    except BrokenPipeError as error:  # of a command, that would be a reader that had enough
        raise ChildError("process.ended", "the container's process ended as it began") from error
