"""Wheels of a few files."""

import zipfile
from pathlib import Path


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """Write one; return its path."""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for inner, data in files.items():
            archive.writestr(inner, data)
    return path
