"""Describe a built image in one JSON file: its content, its origin, its command lines.

Predictors of measurements, tests and verifiers read it, so its keys are stable. `format` changes if
the meaning of a key changes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ccinit.errors import CcinitError
from ccinit.formats.disk.verity import VerityParameters
from measured_boot.image_files import read_report
from rootfs_builder.packages.lock import LockedPackage

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What an image was made of.

    Attributes:
        inputs: digest of everything that decides the result.
        kernel_release: as `uname -r` says it.
        packages: the whole package set, of which the image has parts.
        wheels: file names.
        differences: packages that are not the locked ones; empty for a release.
    """

    inputs: str
    kernel_release: str
    packages: tuple[LockedPackage, ...]
    wheels: tuple[str, ...]
    differences: tuple[str, ...]

    def version_of(self, package: str) -> str:
        """Return the version of an installed package."""
        return next(entry.version for entry in self.packages if entry.name == package)


def encode_report(
    profile: str,
    origin: Origin,
    verity: VerityParameters,
    command_lines: Mapping[str, str],
    files: Iterable[Path],
) -> str:
    """Return the report as JSON text.

    Args:
        profile: `prod` or `test`.
        origin: what the image was made of.
        verity: of the root disk.
        command_lines: by boot path.
        files: everything else that is published for this profile.
    """
    report: dict[str, Any] = {
        "format": FORMAT,
        "profile": profile,
        "root_hash": verity.root_hash.hex(),
        "salt": verity.salt.hex(),
        "blocks": verity.data_blocks,
        "command_lines": dict(command_lines),
        "kernel_release": origin.kernel_release,
        "kernel_version": origin.version_of(f"linux-image-{origin.kernel_release}"),
        "stub_version": origin.version_of("systemd-boot-efi"),
        "files": {path.name: describe_file(path) for path in sorted(files)},
        "locked": not origin.differences,
        "differences": list(origin.differences),
        "inputs": origin.inputs,
        "wheels": sorted(origin.wheels),
        "packages": {package.name: package.version for package in origin.packages},
    }
    return json.dumps(report, indent=1) + "\n"


def describe_file(path: Path) -> dict[str, Any]:
    """Return size and digest of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def read_current(report: Path, inputs: str) -> dict[str, Any] | None:
    """Return the report if it describes an intact image of these inputs.

    A truncated report, or one of another version, describes none; the image is then built anew.
    """
    try:
        content = read_report(report)
        differences = content.get("differences")
        if content.get("inputs") != inputs or not isinstance(differences, list):
            return None
        for name, described in content["files"].items():
            path = report.with_name(name)
            if not path.is_file() or describe_file(path) != described:
                return None
    except (OSError, ValueError, CcinitError):  # ValueError: a name that no file can have
        return None
    return content
