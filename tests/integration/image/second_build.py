"""A second build of the images, on a machine that is as different as one machine can be made.

Another path, one processor, another umask, time zone, locale, host name and home, source files of
other dates, and no network. It shares downloads with the first, and the tools tree.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LONG_AGO = 1_000_000_000
DOWNLOADS = ("build/cache/packages", "build/cache/wheels")
SOURCES = (
    "ccinit",
    "guest-owner/src",
    "host-runtime/src",
    "measured-boot/src",
    "rootfs-builder/src",
)


def copy_repository(destination: Path) -> None:
    """Copy what git knows, with dates of long ago, and what was downloaded."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = Path(name), destination / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
            os.utime(target, (LONG_AGO, LONG_AGO))
    for name in DOWNLOADS:
        shutil.copytree(name, destination / name, symlinks=True)


def build_elsewhere(repository: Path, output: Path, tools: Path) -> None:
    """Build all images of `repository` into `output`, under other circumstances."""
    environment = {
        "CCINIT_TOOLS": str(tools),
        "HOME": "/nonexistent",
        "LANG": "tr_TR.UTF-8",  # the i without a dot
        "LC_ALL": "tr_TR.UTF-8",
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "4711",
        "PYTHONPATH": os.pathsep.join(str(repository / name) for name in SOURCES),
        "SOURCE_DATE_EPOCH": str(LONG_AGO),
        "TZ": "Pacific/Kiritimati",  # where it is tomorrow
    }
    enter = 'umask 077; hostname elsewhere; exec "$@"'
    command = (
        *("unshare", "--uts", "--net", "taskset", "--cpu-list", "0"),
        *("sh", "-euc", enter, "second-build", sys.executable, "-m", "rootfs_builder"),
        *("--repository", repository, "image", "--offline", "--output", output),
    )
    done = subprocess.run(
        command, env=environment, cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
