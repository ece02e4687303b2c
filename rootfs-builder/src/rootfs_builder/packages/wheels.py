"""Fetch the guest's Python packages and open them.

pip downloads exactly the files whose hashes the requirement file gives, for the guest's interpreter
and not the host's, and downloads nothing twice. Nothing is *installed*: a wheel is a zip archive,
and only its importable files are taken. `rootfs_builder.guest_image.python_modules` chooses among
them.

Specification: PEP 427 (wheels), pip's requirement file format.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, FormatError
from measured_boot.command_line.files import naming, read_text_capped
from rootfs_builder.elf import is_elf, strip_unloaded

_PYTHON: Final = "3.13"
_PLATFORMS: Final = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_IMPORTABLE: Final = (".py", ".so")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One locked Python package; any of the hashes may be its wheel's."""

    name: str
    version: str
    sha256: frozenset[str]


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """Return the packages of a requirement file with hashes.

    Raises:
        FormatError: a line is neither a pinned requirement nor a hash, or a package has no hash.
    """
    requirements = []
    for line in text.replace("\\\n", " ").splitlines():
        content = line.partition("#")[0].strip()
        if not content:
            continue
        pinned = _REQUIREMENT.match(content)
        hashes = frozenset(_HASH.findall(content))
        if pinned is None or not hashes:
            raise FormatError("requirements.line", f"no pinned package with hashes: {content!r}")
        requirements.append(
            Requirement(name=pinned.group(1), version=pinned.group(2), sha256=hashes)
        )
    return tuple(requirements)


def encode_requirements(requirements: Iterable[Requirement]) -> str:
    """Return a requirement file of these packages, sorted by name."""
    return "".join(
        f"{requirement.name}=={requirement.version}"
        + "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(requirement.sha256))
        + "\n"
        for requirement in sorted(requirements, key=lambda requirement: requirement.name)
    )


def describe_wheel(wheel: Path) -> Requirement:
    """Return the requirement that exactly this wheel fulfils.

    Raises:
        FormatError: the file name is not that of a wheel.
    """
    name, version = parse_wheel_name(wheel.name)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Requirement(name=name, version=version, sha256=frozenset({digest}))


def parse_wheel_name(file_name: str) -> tuple[str, str]:
    """Return name and version of the package in a wheel.

    Raises:
        FormatError: the file name is not that of a wheel.
    """
    name, _, rest = file_name.partition("-")
    version = rest.partition("-")[0]
    if not file_name.endswith(".whl") or not version:
        raise FormatError("wheels.name", f"{file_name!r} is not the name of a wheel")
    return name.replace("_", "-"), version


def read_requirements(path: Path) -> tuple[Requirement, ...]:
    """Return the packages of a requirement file.

    Raises:
        FormatError: as `parse_requirements`; `file.text`.
    """
    text = read_text_capped(path)
    with naming(path):
        return parse_requirements(text)


def download_command(requirements: Path, destination: Path) -> tuple[str, ...]:
    """Return the pip command that fetches the guest's wheels, dependencies not included."""
    return (
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--python-version", _PYTHON, "--implementation=cp"),
        *(argument for platform in _PLATFORMS for argument in ("--platform", platform)),
        *("--dest", str(destination), "--requirement", str(requirements)),
    )


def fetch_wheels(
    requirements_file: Path, cache: Path, *, offline: bool = False
) -> tuple[Path, ...]:
    """Return the wheel of each locked package, in the file's order, downloading missing ones.

    Raises:
        ConfigError: pip failed, or did not deliver a package's wheel, or an offline build does not
            have it in its cache.
    """
    requirements = read_requirements(requirements_file)
    wheels = _find(requirements, cache)
    if None in wheels and not offline:
        run_pip((*download_command(requirements_file, cache), "--require-hashes"))
        wheels = _find(requirements, cache)
    for requirement, wheel in zip(requirements, wheels, strict=True):
        if wheel is None:
            wanted = f"{requirement.name} {requirement.version}"
            advice = "build once without --offline" if offline else "pip brought no locked one"
            raise ConfigError("wheels.missing", f"no wheel of {wanted} in {cache}: {advice}")
    return tuple(wheel for wheel in wheels if wheel is not None)


def run_pip(command: Sequence[str]) -> None:
    """Run a pip command.

    Raises:
        ConfigError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError("wheels.download", done.stderr.strip()[-2000:])


def unpack_wheels(wheels: Iterable[Path], destination: Path) -> None:
    """Write the importable files of all wheels below `destination`, libraries stripped."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if ".dist-info/" in name or not name.endswith(_IMPORTABLE):
                    continue
                target = destination / name
                if not target.resolve().is_relative_to(destination.resolve()):
                    raise FormatError("wheels.path", f"{wheel.name} holds {name!r}")
                target.parent.mkdir(parents=True, exist_ok=True)
                data = archive.read(name)
                target.write_bytes(strip_unloaded(data) if is_elf(data) else data)


def _find(requirements: Iterable[Requirement], cache: Path) -> tuple[Path | None, ...]:
    by_digest = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(cache.glob("*.whl"))
    }
    return tuple(
        next((by_digest[digest] for digest in sorted(wanted.sha256) if digest in by_digest), None)
        for wanted in requirements
    )
