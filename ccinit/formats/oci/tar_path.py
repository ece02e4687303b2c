"""Paths in a layer's archive: relative, in UTF-8, each with one spelling."""

from ccinit.errors import FormatError

MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255


def normal_path(name: bytes) -> bytes:
    """Return `name` without a leading `./`; `.` itself becomes empty.

    Raises:
        FormatError: `tar.path_…`, which rule it breaks.
    """
    if b"\0" in name:
        raise FormatError("tar.path_nul", "a name with NUL")
    if len(name) > MAX_PATH_BYTES:
        raise FormatError("tar.path_length", f"a name of {len(name)} bytes")
    if not name:
        raise FormatError("tar.path_empty", "an entry without a name")
    if name.startswith(b"/"):
        raise FormatError("tar.path_absolute", f"{name[:80]!r} is absolute")
    try:
        name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("tar.path_utf8", f"{name[:80]!r} is not UTF-8") from error
    if name == b".":
        return b""
    path = name.removeprefix(b"./")
    # One look at the whole path, which is enough for most.
    framed = b"/%b/" % path
    if b"/." in framed or b"//" in framed or len(path) > MAX_NAME_BYTES:
        for component in path.split(b"/"):
            _check_component(component, name)
    return path


def _check_component(component: bytes, name: bytes) -> None:
    if component in (b"", b".", b".."):
        reason = "tar.path_dotdot" if component == b".." else "tar.path_empty"
        raise FormatError(reason, f"{name[:80]!r} has a component {component!r}")
    if len(component) > MAX_NAME_BYTES:
        raise FormatError("tar.path_length", f"a component of {len(component)} bytes")
