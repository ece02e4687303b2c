"""Names in `pod.toml`: of the pod and its parts, and of files and variables in containers."""

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.alphabet import DIGITS, LOWERCASE
from ccinit.formats.encoding.fields import Fields

MAX_NAME_BYTES = 63
_MAX_PART_BYTES, _MAX_PATH_BYTES = 255, 4095  # NAME_MAX, and PATH_MAX without its NUL
_CHARACTERS = frozenset(LOWERCASE + DIGITS + "-")


def read_name(fields: Fields, key: str, where: str) -> str:
    """Read a name.

    Raises:
        FormatError: `<where>.<key>`.
    """
    name = fields.text(key, max_bytes=MAX_NAME_BYTES)
    if not name or not _CHARACTERS.issuperset(name) or name[0] == "-":
        raise FormatError(f"{where}.{key}", f"expected [a-z0-9][a-z0-9-]{{0,62}}, found {name!r}")
    return name


def check_path(path: str, reason: str) -> None:
    """Refuse a path that is not absolute and normal, so that no `..` has to be resolved later.

    Raises:
        FormatError: with `reason`.
        LimitExceededError: with `reason`, the kernel takes no such path.
    """
    before, *parts = path.split("/")
    if before or not parts or not all(parts) or {".", ".."} & set(parts):
        raise FormatError(reason, f"expected a normal absolute path, found {path[:80]!r}")
    longest = max(len(part.encode()) for part in parts)
    if longest > _MAX_PART_BYTES or len(path.encode()) > _MAX_PATH_BYTES:
        raise LimitExceededError(reason, f"longer than a path of Linux: {path[:80]!r}")


def check_variable(name: str, reason: str) -> None:
    """Refuse a variable's name that an environment cannot hold, or that cannot be printed.

    Raises:
        FormatError: with `reason`.
    """
    if not name or "=" in name or not name.isprintable():
        raise FormatError(reason, f"{name[:80]!r} is not a variable's name")
