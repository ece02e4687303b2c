"""What the guest's Python 3.13 imports beside its standard library: the locked wheels and pytest.

The wheels are those of the image (`requirements/guest.txt`); pytest is copied from the interpreter
that runs the host half, so that both halves speak the same reports.
"""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from rootfs_builder.exclusive import exclusive
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

GUEST_LOCK = Path("requirements/guest.txt")
_TEST_DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout")
_ABI = ("--implementation=cp", "--python-version=3.13", "--only-binary=:all:", "--no-deps")
_PLATFORMS = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


def open_site_packages(tools: ToolsTree, cache: Path, lock: Path = GUEST_LOCK) -> Path:
    """Return a directory with everything installed and compiled, made once for each lock."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _TEST_DISTRIBUTIONS]
    key = hashlib.sha256(lock.read_bytes() + "\n".join(versions).encode()).hexdigest()[:16]
    site = cache / f"site-{key}"
    with exclusive(cache / "lock", Progress(name="test guest")):
        if not site.is_dir():
            _make_site(tools, cache / "site.partial", lock).rename(site)
    return site


def _make_site(tools: ToolsTree, partial: Path, lock: Path) -> Path:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _install_wheels(lock, partial)
    for name in _TEST_DISTRIBUTIONS:
        _copy_distribution(name, partial)
    # Compiled here because a guest under emulation takes seconds for it at each boot.
    tools.run(
        ("python3.13", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "."),
        directories=(partial,),
        working_directory=partial.resolve(),
    )
    return partial


def _install_wheels(lock: Path, target: Path) -> None:
    platforms = [f"--platform={platform}" for platform in _PLATFORMS]
    command = (
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-compile", "--require-hashes", f"--target={target}", *_ABI, *platforms),
        *("--root-user-action=ignore", "--requirement", str(lock)),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip ended with {done.returncode}: {done.stderr[-2000:]}")


def _copy_distribution(name: str, target: Path) -> None:
    for file in importlib.metadata.distribution(name).files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), copy)
