"""The owner's and the host's tools, installed as README says, work away from this tree.

Wheels are built and installed without an index, and run by an interpreter that sees nothing but
them and the packages of `requirements/host.txt`: no editable install, no folder of the repository.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ccinit.values import frozen

ROOT = Path(__file__).resolve().parents[3]
PROJECTS = ("./", "./measured-boot", "./guest-owner", "./host-runtime")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-index")
TOOLS = ("guest_owner", "host_runtime", "measured_boot")
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
    print(name, package.__path__[0])
"""


@frozen
class Installation:
    """Where everything is: the wheels, what they became, and what they need."""

    wheels: tuple[Path, ...]
    site: Path
    dependencies: Path

    def run(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run the interpreter without the packages of this environment."""
        return subprocess.run(
            (getattr(sys, "_base_executable", sys.executable), "-S", "-P", *words),
            cwd=folder,
            env={"PYTHONPATH": f"{self.site}:{self.dependencies}", "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, line: str, folder: Path) -> str:
        """Return what an installed command prints; it must succeed."""
        name, *words = line.split()
        done = self.run(str(self.site / "bin" / name), *words, folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    root = tmp_path_factory.mktemp("installation")
    copy_tracked_files(root / "tree")
    wheels = build_wheels(root / "tree", root / "wheels", PROJECTS)
    subprocess.run((*PIP, "install", *OFFLINE, "--target", root / "site", *wheels), check=True)
    link_dependencies(root / "dependencies")
    return Installation(wheels=wheels, site=root / "site", dependencies=root / "dependencies")


def build_wheels(tree: Path, target: Path, projects: Sequence[str]) -> tuple[Path, ...]:
    subprocess.run(
        (*PIP, "wheel", *OFFLINE, "--no-build-isolation", "-w", target, *projects),
        cwd=tree,
        check=True,
    )
    return tuple(sorted(target.glob("*.whl")))


def copy_tracked_files(target: Path) -> None:
    """Copy the projects: building one leaves files beside its sources."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--", "*.toml", "*.md", "LICENSE", "ccinit", *PROJECTS[1:]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name, follow_symlinks=True)


def link_dependencies(target: Path) -> None:
    """Make a folder with the packages of the lock file, and no others."""
    target.mkdir()
    for name in locked_names():
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            place = target / top
            if not place.exists():
                place.symlink_to(Path(str(distribution.locate_file(top))))


def locked_names() -> Iterator[str]:
    text = (ROOT / "requirements" / "host.txt").read_text()
    for line in re.findall(r"^([a-z0-9-]+==.*) \\$", text, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement.name


def test_every_module_is_there_with_what_it_imports(
    installation: Installation, tmp_path: Path
) -> None:
    done = installation.run("-c", IMPORT_ALL, *TOOLS, folder=tmp_path)
    assert done.stderr == ""
    assert done.stdout == "".join(f"{name} {installation.site / name}\n" for name in TOOLS)


def unmet(needs: Sequence[str], has: dict[str, str]) -> list[str]:
    """Return the requirements that these distributions do not meet, as `pip check` does."""
    found = []
    for text in needs:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        version = has.get(need.name)
        if version is None or not need.specifier.contains(version, prereleases=True):
            found.append(text)
    return found


def test_every_requirement_of_the_wheels_is_locked(installation: Installation) -> None:
    ours = tuple(metadata.distributions(path=[str(installation.site)]))
    has = {one.metadata["Name"]: one.version for one in ours}
    assert len(has) == len(PROJECTS)
    has |= {name: metadata.version(name) for name in locked_names()}
    needs = [need for one in ours for need in one.requires or ()]
    assert unmet(needs, has) == []
    assert unmet(["cryptography>=9999", "pytest", "ccinit-guest", "pytest; extra == 'x'"], has) == [
        "cryptography>=9999",
        "pytest",
    ]


def test_package_that_the_lock_file_lacks_would_be_missed(
    installation: Installation, tmp_path: Path
) -> None:
    done = installation.run("-c", "import pytest", folder=tmp_path)
    assert "No module named 'pytest'" in done.stderr


def test_commands_find_the_files_of_their_packages(
    installation: Installation, tmp_path: Path
) -> None:
    installation.command("guest-owner kbs init --state owner --name 127.0.0.1", tmp_path)
    installation.command(
        "guest-owner policy export --state owner --trustee --output trustee", tmp_path
    )
    assert list((tmp_path / "trustee").glob("*.rego"))
    assert "tpm" in installation.command("measured-boot platforms", tmp_path)
    count = "print(len(list(text._FOLDER.iterdir())))"
    read = f"import host_runtime.host_view.firmware_text as text; {count}"
    assert int(installation.run("-c", read, folder=tmp_path).stdout) > 1


def test_wheels_carry_the_licence(installation: Installation) -> None:
    assert len(installation.wheels) == len(PROJECTS)
    for wheel in installation.wheels:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
            assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


def test_upgrade_leaves_no_module_that_is_gone(tmp_path: Path) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    ((removal, projects),) = re.findall(
        r"^git pull && (rm [^#\n]*).*\n.*\n.*--no-index (\. .*)$", page, re.MULTILINE
    )
    tree = tmp_path / "tree"
    copy_tracked_files(tree)
    assert projects.split() == [".", "./measured-boot", "./guest-owner"]
    for stale in ("build/lib/ccinit", "measured-boot/build/lib/measured_boot"):
        (tree / stale).mkdir(parents=True)  # as the build of an older checkout left it
        (tree / stale / "gone.py").touch()
    before = names_in(build_wheels(tree, tmp_path / "before", ("./measured-boot",)))
    assert "measured_boot/gone.py" in before  # else the page needs no such line
    subprocess.run(("sh", "-euc", removal), cwd=tree, check=True)
    after = names_in(build_wheels(tree, tmp_path / "after", (".", "./measured-boot")))
    assert {"ccinit/__init__.py", "measured_boot/__init__.py"} <= after
    assert not {"ccinit/gone.py", "measured_boot/gone.py"} & after


def names_in(wheels: Sequence[Path]) -> set[str]:
    names: set[str] = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names |= set(archive.namelist())
    return names
