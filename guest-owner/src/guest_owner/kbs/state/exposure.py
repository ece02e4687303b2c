"""What other users of the machine could do to a state directory, by the modes of its files.

This warns instead of refusing: a container's volume may be a file system without modes of its own,
and a KBS that does not start fails every guest that boots. Access of a group or another owner is
not even warned of: whoever made the volume gave it to them on purpose.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError

_RESOURCES: Final = "resources"
_KEYS_END: Final = ("-key.pem", "request.key")  # of names at the top


def exposure_warnings(root: Path) -> Iterator[str]:
    """Say in words what anybody may write, and which secrets anybody may read.

    The caller holds the right to change the state, so that no file comes or goes meanwhile.

    Raises:
        ConfigError: `state.read`.
    """
    writable, readable = [], []
    try:
        for path, mode in _within_reach(root):
            if mode & stat.S_IWOTH:
                writable.append(path)
            if stat.S_ISREG(mode) and mode & stat.S_IROTH and _is_secret(path.relative_to(root)):
                readable.append(path)
    except OSError as error:
        detail = f"cannot read {error.filename}: {error.strerror}"
        raise ConfigError("state.read", detail) from error
    for paths, may in (
        (writable, "may write {}, and so says what is released"),
        (readable, "may read {}, which is secret"),
    ):
        if paths:
            named = str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            yield f"every user of this machine {may.format(named)}: chmod -R o= {root}"


def _within_reach(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield what others can reach, with its mode: a folder that is closed to them hides the rest.

    Links are not followed: what they lead to is for the owner to look after.
    """
    mode = folder.stat().st_mode
    yield folder, mode
    if not mode & stat.S_IXOTH:
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _within_reach(path)
        else:
            yield path, path.stat().st_mode


def _is_secret(path: Path) -> bool:
    """Whether only the owner should read a file, by its path below the state directory."""
    if len(path.parts) == 1:
        return path.name.endswith(_KEYS_END)
    return path.parts[0] == _RESOURCES
