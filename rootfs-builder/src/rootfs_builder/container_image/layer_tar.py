"""Layers of a container image as tars (image-spec layer.md): equal input gives equal bytes."""

import errno
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError

EPOCH: Final = 1_735_689_600
"""2025-01-01: the time of every file that no package brought, and the latest of all."""

_ROOT_MODE: Final = 0o755


def tar_tree(root: Path, owner: int | None = None) -> bytes:
    """Return a tar of a directory: sorted, numeric owners, times no later than `EPOCH`.

    The directory's own mode is not used, since it is about access on this machine: that of `mktemp
    -d` would keep every user of a container but root from all programs.

    Args:
        root: the directory; it becomes the root of the layer.
        owner: user and group id of everything; None keeps those of the files.

    Raises:
        ConfigError: `build.file`, something is neither file, link nor directory, or a file has
            capabilities.
    """
    output = io.BytesIO()
    names: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in (root, *sorted(root.rglob("*"), key=lambda path: path.parts)):
            status = path.lstat()
            name = str(path.relative_to(root))
            entry = tarfile.TarInfo(name)
            entry.mode = _ROOT_MODE if path == root else stat.S_IMODE(status.st_mode)
            entry.uid, entry.gid = (
                (status.st_uid, status.st_gid) if owner is None else (owner, owner)
            )
            entry.mtime = min(int(status.st_mtime), EPOCH)
            first = names.setdefault((status.st_dev, status.st_ino), name)
            if path.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(entry)
            elif path.is_dir():
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif first != name:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                tar.addfile(entry)
            elif stat.S_ISREG(status.st_mode):
                _require_no_capabilities(path)
                entry.size = status.st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                raise ConfigError("build.file", f"{path} is neither file, link nor directory")
    return output.getvalue()


def _require_no_capabilities(path: Path) -> None:
    """Refuse capabilities: `tarfile` would store them in a record that guests refuse."""
    try:
        os.getxattr(path, "security.capability", follow_symlinks=False)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return
        raise
    raise ConfigError(
        "build.file",
        f"{path} has capabilities, which this does not carry into an image: copy it without"
        " (`cp` does), and give the container what it needs",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSource:
    """One entry of a layer that is written by hand; `content` None makes a directory."""

    path: str
    content: bytes | None = b""
    mode: int = 0o644
    owner: int = 0
    hard_link: str = ""


def tar_entries(entries: Iterable[TarSource]) -> bytes:
    """Return a tar of the given entries in their order."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for source in entries:
            entry = tarfile.TarInfo(source.path)
            entry.mode, entry.mtime = source.mode, EPOCH
            entry.uid = entry.gid = source.owner
            if source.hard_link:
                entry.type, entry.linkname = tarfile.LNKTYPE, source.hard_link
            elif source.content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(source.content)
            tar.addfile(entry, io.BytesIO(source.content or b""))
    return output.getvalue()
