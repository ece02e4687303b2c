"""A repository of a few files."""

from collections.abc import Mapping
from pathlib import Path

from rootfs_builder.workspace import Workspace


def write_repository(folder: Path, files: Mapping[str, str]) -> Workspace:
    """Write files, whose names are relative to `folder`, and return the workspace there."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Workspace(folder)
