"""Real podman and conmon with `ccinit-runtime` in runc's place.

Both run in a tree (`engine_tree`). Everything of podman's lies in one folder. Needs root.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.host.engine_tree import EngineTree, engine_tree, runtime_program

_SECONDS = 300
_SETTINGS = """
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime_supports_json = ["ccinit-runtime"]
runtime_supports_nocgroup = ["ccinit-runtime"]
[engine.runtimes]
ccinit-runtime = ["{program}"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Podman:
    """A podman of its own, below `folder`."""

    folder: Path
    tree: EngineTree

    @property
    def sealed_logs(self) -> Path:
        """For the operator's file."""
        return self.folder / "sealed"

    def __call__(self, *words: str | Path, accept: tuple[int, ...] = (0,)) -> str:
        """Run a command of podman's and return what it printed."""
        done = self.run(*words)
        assert done.returncode in accept, f"{words}: {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of podman's."""
        folder = self.folder
        places = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run")
        command = self.tree.command(
            *("podman", *places, "--tmpdir", f"{folder}/libpod", "--storage-driver", "vfs"),
            *("--runtime", "ccinit-runtime", *words),
            CONTAINERS_CONF=f"{folder}/containers.conf",
            TMPDIR=str(folder),  # `update` writes a file there, which the runtime reads
            PODMAN_IGNORE_CGROUPSV1_WARNING="1",
        )
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def state(self, name: str, what: str) -> str:
        """Return a value below a container's `.State`."""
        return self("inspect", "--format", f"{{{{.State.{what}}}}}", name)


@contextmanager
def podman_in(folder: Path, runtime_toml: str) -> Iterator[Podman]:
    """Give a podman whose runtime has this operator's file; `folder` has to be short and new."""
    (folder / "rootfs").mkdir()
    settings = _SETTINGS.format(program=runtime_program(folder))
    (folder / "containers.conf").write_text(settings)
    with engine_tree(folder, runtime_toml) as entered:
        podman = Podman(folder=folder, tree=entered)
        yield podman
        podman("rm", "--all", "--force", "--time", "0")
