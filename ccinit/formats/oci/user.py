"""As whom a container runs: the form of `User` (image-spec, config.md) and of `user` in a manifest.

It is `user`, `uid`, `user:group`, `uid:gid` or a mixture; an empty user is root. Which ids the
names have is said by the image's own files, which `run.users` reads.
"""

from ccinit.annotations import Final
from ccinit.errors import FormatError

MAX_ID: Final = (1 << 32) - 2  # 2^32 - 1 is "no change" to the kernel
MAX_ID_DIGITS: Final = 10
_MAX_NAME_BYTES: Final = 256


def split_user(text: str, group_reason: str) -> tuple[str, str]:
    """Return user and group, each a name, an id or empty.

    Raises:
        FormatError: with `group_reason`, a colon and nothing behind it.
    """
    user, colon, group = text.partition(":")
    if colon and not group:
        raise FormatError(group_reason, "empty after the colon")
    return user, group


def parse_id(text: str, reason: str) -> int | None:
    """Return a numeric id, None for a name; anything else is refused.

    Raises:
        FormatError: with `reason`.
    """
    if text.isascii() and text.isdigit():
        if len(text) > MAX_ID_DIGITS or int(text) > MAX_ID:
            raise FormatError(reason, f"{text[:20]} is out of range")
        return int(text)
    printable = text.isascii() and text.isprintable() and " " not in text and ":" not in text
    if not printable or text[0] in "-+" or len(text) > _MAX_NAME_BYTES:
        raise FormatError(reason, f"{text[:80]!r} is neither a name nor an id")
    return None


def check_user(text: str, reason: str) -> None:
    """Refuse what no image's files could make a user of, and what names none.

    An image's empty user means root; whoever writes one in a manifest may mean the image's own.

    Raises:
        FormatError: with `reason`.
    """
    user, group = split_user(text, reason)
    if not user:
        raise FormatError(reason, "no user: leave it out for the image's, or write 0")
    for part in filter(None, (user, group)):
        parse_id(part, reason)
