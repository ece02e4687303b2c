"""Real podman and conmon with `ccinit-runtime` in runc's place.

Both run in the tools tree, in a mount namespace that lasts as long as this does; the runtime runs
on the host's root, which the tree sees at `/host`. Everything of podman's lies in one folder.
Needs root.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from host_runtime.process import python_environment
from rootfs_builder.tools_tree import ToolsTree

_HOST = Path("/host")
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
ccinit-runtime = ["{folder}/ccinit-runtime"]
"""
_RUNTIME = """#!/bin/sh
exec chroot {host} /usr/bin/env -i {variables} {python} -m host_runtime.oci_runtime \\
    --root {folder}/state --config {folder}/runtime.toml "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Podman:
    """A podman of its own, below `folder`."""

    folder: Path
    holder: int

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
        environment = {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "HOME": "/root",
            "PATH": "/usr/bin:/usr/sbin",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        places = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run")
        command = (
            *("nsenter", "--target", str(self.holder), "--mount", "--root", "/usr/bin/env", "-iC/"),
            *(f"{name}={value}" for name, value in environment.items()),
            *("podman", *places, "--tmpdir", f"{folder}/libpod", "--storage-driver", "vfs"),
            *("--runtime", "ccinit-runtime"),
        )
        return subprocess.run(
            (*command, *words), capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def state(self, name: str, what: str) -> str:
        """Return a value below a container's `.State`."""
        return self("inspect", "--format", f"{{{{.State.{what}}}}}", name)


@contextmanager
def podman_in(tree: ToolsTree, folder: Path, runtime_toml: str) -> Iterator[Podman]:
    """Give a podman whose runtime has this operator's file; `folder` has to be short and new."""
    write_files(folder, runtime_toml)
    command = tree.command(("sleep", "infinity"), directories=(folder,), mounts={Path("/"): _HOST})
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as holder:
        try:
            podman = Podman(folder=folder, holder=holder.pid)
            _wait_until_inside(holder)
            yield podman
            podman("rm", "--all", "--force", "--time", "0")
        finally:
            holder.kill()


def write_files(folder: Path, runtime_toml: str) -> None:
    """Write the operator's file, podman's, and the program that stands for the runtime."""
    (folder / "rootfs").mkdir()
    (folder / "containers.conf").write_text(_SETTINGS.format(folder=folder))
    (folder / "runtime.toml").write_text(runtime_toml)
    variables: Mapping[str, str] = {
        **python_environment(),
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "TMPDIR": str(folder),
    }
    program = folder / "ccinit-runtime"
    words = " ".join(f"{name}={value}" for name, value in variables.items())
    program.write_text(
        _RUNTIME.format(host=_HOST, variables=words, python=sys.executable, folder=folder)
    )
    program.chmod(0o755)


def _wait_until_inside(holder: "subprocess.Popen[bytes]") -> None:
    """Wait until the process that was started has become `sleep` in the tree."""
    while Path(f"/proc/{holder.pid}/comm").read_text().strip() != "sleep":
        assert holder.poll() is None
