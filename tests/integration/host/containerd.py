"""Real containerd, its shim for runc and `ctr`, with `ccinit-runtime` in runc's place.

All run in a tree (`engine_tree`). Everything of containerd's lies in one folder, but for
the shims' sockets, which are in the tree's /run. Needs root.
"""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.host.containerd_settings import containerd_settings
from tests.integration.host.engine_tree import ENGINES, EngineTree, engine_tree, runtime_program
from tests.integration.host.silent_machine import silent_operator
from tests.integration.leftovers import short_folder

_SECONDS = 300
_START_SECONDS = 60
PAUSE = "localhost/nothing:1"
"""The image of sandboxes, which is their containers', too; `cri.import_image` brings it."""

CRI_NAMESPACE = "k8s.io"


@dataclass
class Containerd:
    """A containerd of its own, below `folder`."""

    folder: Path
    tree: EngineTree
    daemon: "subprocess.Popen[bytes] | None" = None

    @property
    def sealed_logs(self) -> Path:
        """For the operator's file."""
        return self.folder / "sealed"

    @property
    def containers(self) -> list[str]:
        """The runtime's, in ctr's namespace."""
        return [path.name for path in (self.folder / "runtimes/default").glob("*")]

    @property
    def log(self) -> str:
        """What the daemon and the shims have said."""
        return (self.folder / "daemon.log").read_text()

    def __call__(self, *words: str | Path, accept: tuple[int, ...] = (0,)) -> str:
        """Run a command of `ctr` and return what it printed."""
        done = self.run(*words)
        assert done.returncode in accept, f"{words}: {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of `ctr`."""
        command = self.tree.command("ctr", "--address", self.folder / "containerd.sock", *words)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def run_guest(
        self, name: str, *options: str | Path, **annotations: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `ctr run --detach` of an empty root with these annotations."""
        given = (word for key in annotations.items() for word in ("--annotation", "=".join(key)))
        return self.run(
            *("run", "--detach", "--runc-binary", runtime_program(self.folder)),
            *("--runc-root", self.folder / "runtimes", "--log-uri", f"file://{self.said(name)}"),
            *(*given, *options, "--rootfs", self.folder / "rootfs", name, "/pod"),
        )

    def said(self, name: str) -> Path:
        """A container's log: what `run_guest` makes of its output."""
        return self.folder / f"{name}.log"

    def task(self, name: str) -> tuple[int, str]:
        """Return the pid and the status of a task; (0, "") of none."""
        for line in self("tasks", "list").splitlines()[1:]:
            found, pid, status = line.split()
            if found == name:
                return int(pid), status
        return 0, ""

    def wait_for(self, name: str, status: str, seconds: float = 90.0) -> None:
        """Wait for a task's status."""
        deadline = time.monotonic() + seconds
        while self.task(name)[1] != status:
            assert time.monotonic() < deadline, self.task(name)
            time.sleep(0.2)

    def delete(self, name: str) -> int:
        """Remove a container that has ended; return its exit status."""
        done = self.run("tasks", "delete", name)
        assert done.returncode == 0, done.stderr
        self("containers", "delete", name)
        found = re.search(r"exit with non-zero exit code ([0-9]+)", done.stderr)
        return int(found[1]) if found else 0

    def shim(self, name: str) -> int:
        """Return the id of the process that is a container's shim."""
        words = (b"-id", name.encode(), b"-address", str(self.folder / "containerd.sock").encode())
        (found,) = (
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdecimal() and b"\0".join(words) in _command_line(path)
        )
        return found

    def start(self) -> None:
        """Start the daemon, and wait until it serves."""
        command = self.tree.command("containerd", "--config", self.folder / "containerd.toml")
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_SECONDS
        while self.run("version").returncode:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the daemon; shims and guests go on."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        self.daemon.wait(_START_SECONDS)

    def remove_all(self) -> None:
        """End and remove every container."""
        for name in self("tasks", "list", "--quiet").split():
            self.run("tasks", "delete", "--force", name)
        for name in self("containers", "list", "--quiet").split():
            self("containers", "delete", name)


def containerd_major() -> int:
    """The number of its version, which says how its settings are written and what it speaks."""
    said = ENGINES.run(("containerd", "--version")).decode()
    return int(said.split()[2].removeprefix("v").partition(".")[0])


@contextmanager
def containerd_in(
    folder: Path, runtime_toml: str, network: str = "/proc/self/ns/net"
) -> Iterator[Containerd]:
    """Give a containerd whose runtime has this operator's file; `folder` has to be new."""
    (folder / "rootfs").mkdir()
    with engine_tree(folder, runtime_toml, network) as entered:
        containerd = Containerd(folder=folder, tree=entered)
        settings = containerd_settings(
            containerd_major(), folder=folder, pause=PAUSE, program=runtime_program(folder)
        )
        (folder / "containerd.toml").write_text(settings)
        containerd.start()
        try:
            yield containerd
            containerd.remove_all()
        finally:
            containerd.stop()


@contextmanager
def silent_containerd(keys: str = "") -> Iterator[Containerd]:
    """Give a containerd whose guests are silent machines, below a short path of its own.

    The operator's file begins with `keys`.
    """
    with short_folder() as folder:
        operator = keys + silent_operator(folder, "initdata", "image")
        with containerd_in(folder, operator) as containerd:
            yield containerd


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
