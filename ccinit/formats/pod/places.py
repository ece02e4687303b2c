"""Where the manifest puts things in a container: no two of them at one path.

Not available are the kernel's own paths, the pod's files in /etc, and everything else in a
directory of files that rotate, since that is a mount of its own.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from ccinit.errors import FormatError
from ccinit.values import frozen

KERNEL_PLACES: Final = ("/proc", "/sys", "/dev")
POD_FILES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")
_SHOWN_CHARACTERS: Final = 80


@frozen
class Place:
    """Where one thing is.

    Attributes:
        key: of the manifest, for errors.
        path: absolute and normal.
        is_file: whether nothing else can be below it.
        rotates: whether it is a file that may be replaced.
    """

    key: str
    path: str
    is_file: bool = False
    rotates: bool = False

    @property
    def directory(self) -> str:
        """The directory that it is in; empty for the root."""
        return self.path.rpartition("/")[0]


def check_places(container: str, places: Sequence[Place], cwd: str | None = None) -> None:
    """Refuse places that the things of one container cannot have.

    Args:
        container: its name.
        places: of what the manifest puts there.
        cwd: where its program begins; None leaves that to the image.

    Raises:
        FormatError: the place's key: two things at one path, one within the kernel's paths, or one
            below or above a file; `pod.secret.rotate`, a file that cannot be replaced there;
            `pod.container.cwd`, no directory can be there.
    """
    taken = set(POD_FILES)
    files = {*POD_FILES, *(place.path for place in places if place.is_file)}
    for place in places:
        path = place.path
        if path in taken:
            raise _refused(place.key, container, f"two things at {path[:_SHOWN_CHARACTERS]}")
        if is_kernels(path):
            raise _refused(place.key, container, f"{path[:_SHOWN_CHARACTERS]} is the kernel's")
        if not files.isdisjoint(_list_parents(path)):
            raise _refused(place.key, container, f"{path[:_SHOWN_CHARACTERS]} is below a file")
        if place.is_file and any(_is_within(one, path) for one in POD_FILES):
            raise _refused(place.key, container, f"{path[:_SHOWN_CHARACTERS]} has the pod's files")
        taken.add(path)
    if not files.isdisjoint(_list_parents(f"{cwd or ''}/")):
        shown = str(cwd)[:_SHOWN_CHARACTERS]
        raise _refused("pod.container.cwd", container, f"{shown} is a file, or below one")
    for directory in {place.directory for place in places if place.rotates}:
        others = [one.path for one in places if not (one.rotates and one.directory == directory)]
        _check_rotating(container, directory, (*POD_FILES, *others))


def _check_rotating(container: str, directory: str, others: Sequence[str]) -> None:
    if not directory:
        raise _refused("pod.secret.rotate", container, "a file in / cannot be replaced")
    for path in others:
        if _is_within(path, directory):
            where = directory[:_SHOWN_CHARACTERS]
            what = f"{where} has something in it that does not rotate: {path[:_SHOWN_CHARACTERS]}"
            raise _refused("pod.secret.rotate", container, what)


def is_kernels(path: str) -> bool:
    """Whether a normal path is one of the kernel's places, or below one."""
    return any(_is_within(path, place) for place in KERNEL_PLACES)


def _list_parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _refused(reason: str, container: str, what: str) -> FormatError:
    return FormatError(reason, f"{container}: {what}")
