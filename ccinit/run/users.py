"""Who a container runs as: the `User` field, resolved against the image's own files (R69).

Scope: `user`, `uid`, `user:group`, `uid:gid` and mixtures (image-spec, config.md, "User"), read
with the image's /etc/passwd and /etc/group, which are hostile: bounded, and found inside the
image's root only. A user or group that is not there is an error, never root. Left to others:
putting the identity on a process (`crun`, by `ccinit.run.spec`).
"""

import errno
import os
from collections.abc import Iterator
from stat import S_ISREG
from typing import Final

from ccinit.errors import FormatError, KernelError, LimitExceededError
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.openat2 import open_in_root
from ccinit.kernel.small_files import read_to_end
from ccinit.values import frozen

MAX_FILE_BYTES: Final = 1 << 20
MAX_GROUPS: Final = 1024
MAX_ID: Final = (1 << 32) - 2  # 2^32 - 1 is "no change" to the kernel
_MAX_NAME_BYTES: Final = 256
_MAX_DIGITS: Final = 10
_USERS: Final = "/etc/passwd"
_GROUPS: Final = "/etc/group"


@frozen
class Identity:
    """Numeric identity of a process; `home` is empty if the image does not say."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str


@frozen
class UserFiles:
    """Content of the image's /etc/passwd and /etc/group; empty if it has none."""

    passwd: bytes
    group: bytes


@frozen
class _User:
    name: str
    uid: int
    gid: int
    home: str


def read_user_files(root_fd: int) -> UserFiles:
    """Read both files below `root_fd`, the open root of an image.

    Raises:
        LimitExceededError: `run.user_file`, larger than `MAX_FILE_BYTES`.
        FormatError: `run.user_file`, not a regular file.
        KernelError: the kernel refused for another reason than absence.
    """
    return UserFiles(passwd=_read_bounded(root_fd, _USERS), group=_read_bounded(root_fd, _GROUPS))


def resolve_user(text: str, files: UserFiles) -> Identity:
    """Resolve the `User` field `text`; empty means root.

    Without a group, the primary and further groups are those of the image's files; with one, it is
    the only group.

    Raises:
        FormatError: `run.user` (malformed, out of range, unknown) or `run.group`.
    """
    user_text, colon, group_text = text.partition(":")
    if colon and not group_text:
        raise FormatError("run.group", "empty after the colon")
    user = _find_user(user_text, files)
    if group_text:
        gid = _find_group(group_text, files)
        return Identity(uid=user.uid, gid=gid, additional_gids=(), home=user.home)
    further = _groups_of(user.name, user.gid, files)
    return Identity(uid=user.uid, gid=user.gid, additional_gids=further, home=user.home)


def _find_user(text: str, files: UserFiles) -> _User:
    if not text:
        text = "0"
    number = _parse_number(text, "run.user")
    for user in _users(files.passwd):
        if user.uid == number if number is not None else user.name == text:
            return user
    if number is None:
        raise FormatError("run.user", f"{text!r} is not in the image's {_USERS}")
    return _User(name="", uid=number, gid=0, home="")


def _find_group(text: str, files: UserFiles) -> int:
    number = _parse_number(text, "run.group")
    if number is not None:
        return number
    for name, gid, _ in _groups(files.group):
        if name == text:
            return gid
    raise FormatError("run.group", f"{text!r} is not in the image's {_GROUPS}")


def _groups_of(name: str, primary: int, files: UserFiles) -> tuple[int, ...]:
    if not name:
        return ()
    found = {gid for _, gid, members in _groups(files.group) if name in members} - {primary}
    if len(found) > MAX_GROUPS:
        raise LimitExceededError("run.group", f"{len(found)} groups")
    return tuple(sorted(found))


def _parse_number(text: str, reason: str) -> int | None:
    """Return a numeric id, None for a name; anything else is refused."""
    if text.isascii() and text.isdigit():
        if len(text) > _MAX_DIGITS or int(text) > MAX_ID:
            raise FormatError(reason, f"{text[:20]} is out of range")
        return int(text)
    printable = text.isascii() and text.isprintable() and " " not in text and ":" not in text
    if not printable or text[0] in "-+" or len(text) > _MAX_NAME_BYTES:
        raise FormatError(reason, f"{text[:80]!r} is neither a name nor an id")
    return None


def _users(passwd: bytes) -> Iterator[_User]:
    """Yield the lines that the C library reads: comment, home and shell may be left out."""
    for name, _, uid_text, gid_text, _, home in _rows(passwd, needed=4, read=6):
        uid, gid = _row_id(uid_text), _row_id(gid_text)
        if uid is not None and gid is not None:
            yield _User(name=name, uid=uid, gid=gid, home=home)


def _groups(group: bytes) -> Iterator[tuple[str, int, frozenset[str]]]:
    for name, _, gid_text, members in _rows(group, needed=3, read=4):
        gid = _row_id(gid_text)
        if gid is not None:
            yield name, gid, frozenset(members.split(","))


def _rows(data: bytes, needed: int, read: int) -> Iterator[list[str]]:
    """Yield the first `read` columns of lines with `needed` ones; those left out are empty."""
    for line in data.decode("utf-8", "replace").split("\n"):
        columns = line.split(":")
        if len(columns) >= needed and columns[0] and not line.startswith("#"):
            yield (columns + [""] * read)[:read]


def _row_id(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS or int(text) > MAX_ID:
        return None
    return int(text)


def _read_bounded(root_fd: int, path: str) -> bytes:
    # O_NONBLOCK: a fifo in that place must not stop PID 1 before fstat() has seen it
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK
    try:
        fd = open_in_root(root_fd, path, flags)
    except KernelError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return b""
        raise
    try:
        _verify_regular(fd, path)
        # refused by the kernel if the host has changed a block of it
        data = read_to_end(fd, MAX_FILE_BYTES, "read", path)
    finally:
        os.close(fd)
    if len(data) > MAX_FILE_BYTES:
        raise LimitExceededError("run.user_file", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def _verify_regular(fd: int, path: str) -> None:
    try:
        is_regular = S_ISREG(os.fstat(fd).st_mode)
    except OSError as error:
        raise kernel_error(error, "fstat", path) from error
    if not is_regular:
        raise FormatError("run.user_file", f"{path} is not a file")
