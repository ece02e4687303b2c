"""The files that list an image's users: opened in its root, and read by a child.

Scope: opening them, following links only inside the image's root, and checking what the child
`user` answers. Left to others: their content, which PID 1 does not parse (`ccinit.run.users`);
starting the child (`agent`).
"""

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from stat import S_ISREG
from typing import Final, TypeAlias

from ccinit.errors import ChildError, FormatError, KernelError
from ccinit.formats.oci.user import MAX_ID
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.openat2 import open_in_root
from ccinit.run.users import (
    GROUPS,
    MAX_GROUPS,
    MAX_HOME_CHARACTERS,
    USERS,
    Identity,
    UserFiles,
    UserRequest,
    resolve_user,
)

AskUserChild: TypeAlias = Callable[[UserRequest, Mapping[str, int]], Awaitable[Identity]]
"""Has `ccinit.run.users.user_job` done by a child, which gets copies of the fds."""

_NO_FILES: Final = UserFiles(passwd=b"", group=b"")


async def find_identity(root_fd: int, user: str, ask: AskUserChild) -> Identity:
    """Resolve the `User` field against the files below `root_fd`, the open root of an image.

    If neither file exists, the field alone decides, and no child is started.

    Raises:
        FormatError: `run.user`, `run.group`; `run.user_file`, not a regular file.
        LimitExceededError: `run.user_file`, `run.group`.
        ChildError: `child.protocol`, what came back is no identity; or what became of the child.
        KernelError: the kernel refused for another reason than absence.
    """
    with ExitStack() as opened:
        fds: dict[str, int] = {}
        for path in (USERS, GROUPS):
            fd = _open(root_fd, path)
            if fd is not None:
                opened.callback(os.close, fd)
                _verify_regular(fd, path)
                fds[path] = fd
        if not fds:
            return resolve_user(user, _NO_FILES)
        identity = await ask(UserRequest(user=user), fds)
    _verify_range(identity)
    return identity


def _open(root_fd: int, path: str) -> int | None:
    # O_NONBLOCK: a FIFO there must not block PID 1 before fstat() can refuse it
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK
    try:
        return open_in_root(root_fd, path, flags)
    except KernelError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return None
        raise


def _verify_regular(fd: int, path: str) -> None:
    try:
        is_regular = S_ISREG(os.fstat(fd).st_mode)
    except OSError as error:
        raise kernel_error(error, "fstat", path) from error
    if not is_regular:
        raise FormatError("run.user_file", f"{path} is not a file")


def _verify_range(identity: Identity) -> None:
    ids = (identity.uid, identity.gid, *identity.additional_gids)
    if (
        not all(0 <= one <= MAX_ID for one in ids)
        or len(identity.additional_gids) > MAX_GROUPS
        or len(identity.home) > MAX_HOME_CHARACTERS
    ):
        raise ChildError("child.protocol", "no identity of a process")
