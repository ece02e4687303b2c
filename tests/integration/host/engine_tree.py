"""A tree in which an engine runs, with `ccinit-runtime` as its OCI runtime.

Engines run in the tree, in a mount namespace that lasts as long as its holder does; the runtime
runs on the host's root, which the tree sees at `/host`. Needs root.

The engines are those of the tools tree, unless `CCINIT_ENGINES` names another Debian tree.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from host_runtime.programs.process import python_environment
from rootfs_builder.tools_tree import ToolsTree
from tests.integration.host.silent_machine import TOOLS

ENGINES: Final = ToolsTree(Path(os.environ.get("CCINIT_ENGINES") or TOOLS).absolute())
_HOST = Path("/host")
_PATH = "/usr/bin:/usr/sbin"
_RUNTIME = """#!/bin/sh
exec chroot {host} /usr/bin/env -i {variables} {python} -m host_runtime.oci_runtime \\
    --root {folder}/state --config {folder}/runtime.toml "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTree:
    """A tree that is entered by its holder's id."""

    holder: int

    def command(self, *words: str | Path, **environment: str) -> tuple[str | Path, ...]:
        """Return the host command that runs one in the tree; it *becomes* that."""
        variables = {"HOME": "/root", "PATH": _PATH, **environment}
        return (
            *("nsenter", "--target", str(self.holder), "--mount", "--net", "--root"),
            *("/usr/bin/env", "-iC/"),
            *(f"{name}={value}" for name, value in variables.items()),
            *words,
        )


@contextmanager
def engine_tree(
    folder: Path, runtime_toml: str, network: str = "/proc/self/ns/net"
) -> Iterator[EngineTree]:
    """Give the engines' tree. What runs there is in the network namespace of that path.

    It sees `folder`, with the operator's file and the runtime's program in it.
    """
    _write_runtime(folder, runtime_toml)
    mounts = {Path("/"): _HOST}
    command = ENGINES.command(("sleep", "infinity"), directories=(folder,), mounts=mounts)
    within = ("nsenter", f"--net={network}", *command)
    with subprocess.Popen(within, stdin=subprocess.DEVNULL) as holder:
        try:
            _wait_until_inside(holder)
            yield EngineTree(holder=holder.pid)
        finally:
            holder.kill()


def runtime_program(folder: Path) -> Path:
    """The program that stands for the runtime in a folder's tree."""
    return folder / "ccinit-runtime"


def _write_runtime(folder: Path, runtime_toml: str) -> None:
    (folder / "runtime.toml").write_text(runtime_toml)
    variables: Mapping[str, str] = {
        **python_environment(),
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "TMPDIR": str(folder),
    }
    program = runtime_program(folder)
    words = " ".join(f"{name}={value}" for name, value in variables.items())
    program.write_text(
        _RUNTIME.format(host=_HOST, variables=words, python=sys.executable, folder=folder)
    )
    program.chmod(0o755)


def _wait_until_inside(holder: "subprocess.Popen[bytes]") -> None:
    """Wait until the process that was started has become `sleep` in the tree."""
    while Path(f"/proc/{holder.pid}/comm").read_text().strip() != "sleep":
        assert holder.poll() is None
