"""The volume with tools for debugging: opened, verified by another tool, and run as a root.

Builds it with the images if it is not up to date. Needs root and the tools tree.
"""

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from rootfs_builder.elf import is_elf, parse_elf
from rootfs_builder.tools_tree import ToolsTree

pytestmark = pytest.mark.timeout(900)  # the first test may have to build

IMAGES = Path("build/image").absolute()
TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
VOLUME = IMAGES / "ccinit-debug-tools.verity"
DESCRIPTION = IMAGES / "ccinit-debug-tools.json"


@pytest.fixture(scope="module")
def root(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    extract = ("fsck.erofs", f"--extract={folder}/root", "--preserve", VOLUME)
    TOOLS.run(extract, directories=(folder, images))
    return folder / "root"


def run(root: Path, *command: str) -> str:
    enter = 'mount -t proc proc "$1/proc"; exec chroot "$@"'
    done = subprocess.run(
        ("unshare", "--mount", "sh", "-euc", enter, "run", root, *command),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin", "TERM": "xterm"},
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def test_volume_verifies_by_an_independent_tool(root: Path) -> None:
    value = json.loads(DESCRIPTION.read_text())
    assert set(value) == {"root_hash", "salt", "data_blocks", "size_bytes"}
    assert value["size_bytes"] == VOLUME.stat().st_size
    command = (
        *("veritysetup", "verify", "--no-superblock", "--hash=sha256"),
        *(f"--salt={value['salt']}", f"--data-blocks={value['data_blocks']}"),
        *(f"--hash-offset={value['data_blocks'] * 4096}", VOLUME, VOLUME, value["root_hash"]),
    )
    TOOLS.run(command, directories=(IMAGES,))


def test_sums_and_signature_cover_the_volume(root: Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (IMAGES / "SHA256SUMS").read_text().splitlines())
    for path in (VOLUME, DESCRIPTION):
        assert sums[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_program_finds_its_libraries(root: Path) -> None:
    programs = sorted((root / "usr/bin").iterdir())
    assert len(programs) > 80
    for path in programs:
        data = path.read_bytes()
        assert is_elf(data), path
        if parse_elf(data).interpreter:
            listed = run(root, "/lib64/ld-linux-x86-64.so.2", "--list", f"/usr/bin/{path.name}")
            assert "not found" not in listed, path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("bash -c 'cd /; for f in *; do echo $f; done | sort | head -n 1'", "bin"),
        ("sh -c 'echo $((6 * 7))'", "42"),
        ("strace -V", "strace -- version"),
        ("ip -V", "ip utility, iproute2"),
        ("ss -V", "ss utility, iproute2"),
        ("ps --version", "ps from procps"),
        ("ps -o comm= -p $$", "bash"),
        ("dmsetup --help", "Usage"),
        ("less --version", "less "),
        ("awk 'BEGIN { print 1.5 * 2 }'", "3"),
        ("id -un", "root"),
        ("ls /usr/share/terminfo/x/xterm", "xterm"),
    ],
)
def test_tool_runs_with_the_volume_as_its_root(root: Path, command: str, said: str) -> None:
    assert said in run(root, "/usr/bin/bash", "-c", f"{command} 2>&1")


def test_volume_gives_no_rights_by_modes(root: Path) -> None:
    for path in root.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        if not stat.S_ISLNK(status.st_mode):
            assert stat.S_IMODE(status.st_mode) in {0o755, 0o644}, path


def test_volume_has_places_for_a_guests_own_folders(root: Path) -> None:
    for name in ("dev", "mnt", "proc", "root", "run", "sys", "tmp"):
        assert list((root / name).iterdir()) == []
