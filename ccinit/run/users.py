"""Who a container runs as: the `User` field, resolved against the image's own files (R69).

Scope: `user`, `uid`, `user:group`, `uid:gid` and mixtures (image-spec, config.md, "User"), resolved
with the image's /etc/passwd and /etc/group. These are hostile, so the child `user` reads them: it
gets both by fd, and caps their size. An unknown user or group is an error, never root. Left to
others: opening the files and starting the child (`ccinit.run.user_files`), applying the identity to
a process (`crun`, by `ccinit.run.spec`).
"""

from collections.abc import Iterator, Mapping

from ccinit.annotations import Final, Protocol
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.oci.user import MAX_ID, MAX_ID_DIGITS, parse_id, split_user
from ccinit.kernel.small_files import read_to_end
from ccinit.values import frozen

USERS: Final = "/etc/passwd"
GROUPS: Final = "/etc/group"
MAX_FILE_BYTES: Final = 1 << 20
MAX_GROUPS: Final = 1024
MAX_HOME_CHARACTERS: Final = 4096  # PATH_MAX: a longer one is no directory


@frozen
class UserRequest:
    """The `User` field to resolve."""

    user: str


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


class UserChannel(Protocol):
    """The job's connection to the outside."""

    @property
    def fds(self) -> Mapping[str, int]:
        """The image's files, open for reading, by their paths; without those it does not have."""


def user_job(request: UserRequest, channel: UserChannel) -> Identity:
    """Read the image's files and resolve the `User` field against them.

    Raises:
        FormatError, LimitExceededError: see `resolve_user`.
        LimitExceededError: `run.user_file`, a file is larger than `MAX_FILE_BYTES`.
        KernelError: a file cannot be read.
    """
    passwd, group = (_read_bounded(channel.fds, path) for path in (USERS, GROUPS))
    return resolve_user(request.user, UserFiles(passwd=passwd, group=group))


def resolve_user(text: str, files: UserFiles) -> Identity:
    """Resolve the `User` field `text`; empty means root.

    Without a group, the image's files give the primary and supplementary groups; with one, it is
    the only group.

    Raises:
        FormatError: `run.user` (malformed, out of range, unknown) or `run.group`.
        LimitExceededError: `run.user_file`, a home that is no path; `run.group`, too many.
    """
    user_text, group_text = split_user(text, "run.group")
    user = _find_user(user_text, files)
    if len(user.home) > MAX_HOME_CHARACTERS:
        raise LimitExceededError("run.user_file", f"a home of {len(user.home)} characters")
    if group_text:
        gid = _find_group(group_text, files)
        return Identity(uid=user.uid, gid=gid, additional_gids=(), home=user.home)
    further = _groups_of(user.name, user.gid, files)
    return Identity(uid=user.uid, gid=user.gid, additional_gids=further, home=user.home)


def _find_user(text: str, files: UserFiles) -> _User:
    if not text:
        text = "0"
    number = parse_id(text, "run.user")
    for user in _users(files.passwd):
        if user.uid == number if number is not None else user.name == text:
            return user
    if number is None:
        raise FormatError("run.user", f"{text!r} is not in the image's {USERS}")
    return _User(name="", uid=number, gid=0, home="")


def _find_group(text: str, files: UserFiles) -> int:
    number = parse_id(text, "run.group")
    if number is not None:
        return number
    for name, gid, _ in _groups(files.group):
        if name == text:
            return gid
    raise FormatError("run.group", f"{text!r} is not in the image's {GROUPS}")


def _groups_of(name: str, primary: int, files: UserFiles) -> tuple[int, ...]:
    if not name:
        return ()
    found = {gid for _, gid, members in _groups(files.group) if name in members} - {primary}
    if len(found) > MAX_GROUPS:
        raise LimitExceededError("run.group", f"{len(found)} groups")
    return tuple(sorted(found))


def _users(passwd: bytes) -> Iterator[_User]:
    """Yield the lines that the C library would accept: comment, home and shell may be missing."""
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
    """Yield the first `read` columns of lines with at least `needed`; missing ones are empty."""
    for line in data.decode("utf-8", "replace").split("\n"):
        columns = line.split(":")
        if len(columns) >= needed and columns[0] and not line.startswith("#"):
            yield (columns + [""] * read)[:read]


def _row_id(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > MAX_ID_DIGITS or int(text) > MAX_ID:
        return None
    return int(text)


def _read_bounded(fds: Mapping[str, int], path: str) -> bytes:
    if path not in fds:
        return b""
    # fails if the host has changed a block of it
    data = read_to_end(fds[path], MAX_FILE_BYTES, "read", path)
    if len(data) > MAX_FILE_BYTES:
        raise LimitExceededError("run.user_file", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data
