"""Names in `pod.toml`: of the pod, and of what it consists of."""

from ccinit.errors import FormatError
from ccinit.formats.alphabet import DIGITS, LOWERCASE
from ccinit.formats.fields import Fields

MAX_NAME_BYTES = 63
_CHARACTERS = frozenset(LOWERCASE + DIGITS + "-")


def read_name(fields: Fields, key: str, where: str) -> str:
    """Read a name.

    Raises:
        FormatError: `<where>.<key>`.
    """
    name = fields.text(key, max_bytes=MAX_NAME_BYTES)
    if not name or not _CHARACTERS.issuperset(name) or name[0] == "-":
        raise FormatError(f"{where}.{key}", f"expected [a-z0-9-]{{1,63}}, found {name!r}")
    return name
