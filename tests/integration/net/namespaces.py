"""Programs in networks of their own, and networks of two machines in one program. Needs root."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ccinit.kernel.libc import check, libc

CLONE_NEWNET = 0x40000000
ROOT = Path(__file__).parents[3]
_SECONDS = 90


def run_apart(module: str, *arguments: str) -> Any:
    """Run a module of the tests in a network without links, and with mounts of its own.

    Returns what it prints, which is JSON.
    """
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    done = subprocess.run(
        ("unshare", "--net", "--mount", sys.executable, "-m", module, *arguments),
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
    return json.loads(done.stdout)


def enter_namespace() -> str:
    """Enter a network namespace without links; return a path that names it as long as we live."""
    check(libc.unshare(CLONE_NEWNET), "unshare", "network")
    return f"/proc/{os.getpid()}/fd/{os.open('/proc/self/ns/net', os.O_RDONLY)}"


def ip(line: str, within: str = "") -> str:
    """Run `ip`, in another namespace if one is named; return what it says."""
    entering = ("nsenter", f"--net={within}") if within else ()
    command = (*entering, "ip", *line.split())
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
