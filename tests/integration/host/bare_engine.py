"""`ccinit-runtime` called as an engine's monitor calls it, and the processes that it leaves behind.

The guests halt at once.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_runtime.programs.process import python_environment
from host_runtime.programs.socket_folder import open_socket_folder
from tests.fakes.documents.oci_bundles import (
    INITDATA,
    encode_annotation,
    make_document,
    podman_config,
)
from tests.integration.host.silent_machine import silent_operator

DOCUMENT = encode_annotation(make_document())
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Engine:
    """Calls the runtime as conmon does: the orphans of `create` are its children.

    `entering` are words before each call's, of a program that puts it into a namespace.
    """

    folder: Path
    sockets: Path
    calls: int = 0
    entering: tuple[str, ...] = ()

    def run(self, *words: str, program: Sequence[str] = ("-m", "host_runtime.oci_runtime")) -> int:
        self.calls += 1
        places = ("--root", f"{self.folder}/state", "--config", f"{self.folder}/runtime.toml")
        # Files, since what `create` leaves behind goes on with them.
        with self.stdout.open("w") as stdout, self.stderr.open("w") as stderr:
            done = subprocess.run(
                (*self.entering, sys.executable, *program, *places, *words),
                stdout=stdout,
                stderr=stderr,
                timeout=90,
                env={**python_environment(), "XDG_RUNTIME_DIR": str(self.sockets)},
                check=False,
            )
        return done.returncode

    @property
    def stdout(self) -> Path:
        return self.folder / f"stdout-{self.calls}"

    @property
    def stderr(self) -> Path:
        return self.folder / f"stderr-{self.calls}"

    def done(self, *words: str) -> str:
        assert self.run(*words) == 0, self.said()
        return self.stdout.read_text()

    def refused(self, *words: str) -> str:
        """Run what has to be refused; return the reason."""
        assert self.run(*words) == 1
        return self.said().rpartition("[")[2].rstrip("]\n")

    def said(self) -> str:
        return self.stderr.read_text()

    def bundle(self, config: Mapping[str, Any] | None = None) -> Path:
        if config is None:
            config = podman_config(**{INITDATA: encode_annotation(make_document())})
            config["linux"]["namespaces"] = [{"type": "network"}]
        path = self.folder / "bundle"
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps(config))
        return path

    def create(self, name: str) -> int:
        pid_file = self.folder / f"{name}.pid"
        self.done("create", "--bundle", str(self.bundle()), "--pid-file", str(pid_file), name)
        return int(pid_file.read_text())

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.done("state", name))
        return state


@contextmanager
def open_engine(folder: Path) -> Iterator[Engine]:
    """Run an engine in `folder`; its containers are removed at the end, and no orphan is left."""
    ours = children_of(os.getpid()).keys()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    (folder / "runtime.toml").write_text(silent_operator(folder, "initdata"))
    with open_socket_folder() as sockets:
        engine = Engine(folder=folder, sockets=sockets)
        yield engine
        for path in (folder / "state").glob("*"):
            engine.done("delete", "--force", path.name)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for orphan in children_of(os.getpid()).keys() - ours:
        reap(orphan)


def reap(pid: int) -> int:
    """Wait for an orphan, as conmon does; return its exit status, negative: by that signal."""
    deadline = time.monotonic() + 60
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return os.waitstatus_to_exitcode(found[1])


def children_of(pid: int) -> dict[int, bytes]:
    """The ids of a process's children with their command lines."""
    return {
        int(child): Path(f"/proc/{child}/cmdline").read_bytes()
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    }


def is_running(pid: int) -> bool:
    """Whether a child of ours has not ended, though nobody has waited for it yet."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def qemu_of(pid: int) -> int:
    (found,) = (
        child for child, words in children_of(pid).items() if b"qemu-system-x86_64" in words
    )
    return found


def end(pid: int, how: Callable[[], object]) -> int:
    """End a container's process; return its exit status, once all of its children have gone."""
    children = children_of(pid)
    assert len(children) == 2  # QEMU and the vsock device
    how()
    status = reap(pid)
    for child in children:
        with suppress(ChildProcessError):  # it was reaped by its parent
            reap(child)
    return status


def network_of(pid: int | str) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()
