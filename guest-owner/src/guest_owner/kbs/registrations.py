"""Folders of the state directory that hold one file for each registration: `NAME.SUFFIX`.

Which folders there are, and what is in their files, is `guest_owner.kbs.store`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from ccinit.errors import ConfigError
from guest_owner.kbs.files import (
    PUBLIC_MODE,
    is_file,
    list_folder,
    naming,
    read_capped,
    write_all_atomically,
)

T = TypeVar("T")

MAX_ENTRIES: Final = 1024


def read_registrations(
    directory: Path, suffix: str, max_bytes: int, parse: Callable[[str, bytes], T]
) -> tuple[T, ...]:
    """Return what `parse` makes of each file's name, without its suffix, and content.

    Raises:
        ConfigError: `state.entries`, `state.stray`; as `list_folder` and `read_capped`; what
            `parse` says about the form, with the name of the file.
    """
    paths = list_folder(directory)
    if len(paths) > MAX_ENTRIES:
        raise ConfigError("state.entries", f"more than {MAX_ENTRIES} files in {directory}")
    parsed = []
    for path in paths:
        if path.suffix != suffix:
            raise ConfigError("state.stray", f"{path} is not a {suffix} file; remove it")
        data = read_capped(path, max_bytes)
        with naming(path):
            parsed.append(parse(path.stem, data))
    return tuple(parsed)


def write_registrations(root: Path, files: Mapping[str, bytes]) -> None:
    """Write registrations, replacing those of the same names; the caller has the state's lock.

    Args:
        root: the state directory.
        files: contents by path below it; nothing is written unless there is room for all.

    Raises:
        ConfigError: `state.entries`, with these a folder would hold too many to be read; as
            `write_all_atomically`.
    """
    fresh = Counter((root / file).parent for file in files if not is_file(root / file))
    for folder, more in fresh.items():
        if len(list_folder(folder)) + more > MAX_ENTRIES:
            detail = (
                f"{folder} has room for {MAX_ENTRIES} files: remove what is not needed any more"
            )
            raise ConfigError("state.entries", detail)
    write_all_atomically({root / file: data for file, data in files.items()}, mode=PUBLIC_MODE)
