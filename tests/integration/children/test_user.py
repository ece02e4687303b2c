"""The child that finds out who a container runs as, for real, with its rights and nothing else.

Needs root, for the change of user.
"""

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from ccinit.agent.phases.pod import ask_user_child
from ccinit.agent.processes.children import Children
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop
from ccinit.run.user_files import find_identity
from ccinit.run.users import MAX_FILE_BYTES, MAX_GROUPS, Identity
from tests.integration.children.conftest import ROOT
from tests.integration.children.harness import needs_root

pytestmark = needs_root

PASSWD = "web:x:1000:100:Web:/srv/web:/bin/sh\n"
GROUP = "video:x:44:web\n"
WEB = Identity(uid=1000, gid=100, additional_gids=(44,), home="/srv/web")
PIECES = ("\n", ":", ",", "ab\n", "b:x:1:1\n", "\U0001f600:", "\U0001f600\n")


def find(root: Path, user: str, passwd: bytes, group: bytes) -> Identity:
    """Find a user of the image with these files, which only root may read."""
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": path})
    (root / "etc").mkdir(exist_ok=True)
    for name, content in (("passwd", passwd), ("group", group)):
        (root / "etc" / name).write_bytes(content)
        (root / "etc" / name).chmod(0o600)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return EventLoop().run(find_identity(root_fd, user, partial(ask_user_child, children)))
    finally:
        os.close(root_fd)


def test_child_finds_the_user(tmp_path: Path) -> None:
    assert find(tmp_path, "web", PASSWD.encode(), GROUP.encode()) == WEB
    assert find(tmp_path, "web", PASSWD.encode(), b"") == Identity(
        uid=1000, gid=100, additional_gids=(), home="/srv/web"
    )


@pytest.mark.parametrize(
    ("user", "more", "reason"),
    [
        ("nobody-here", b"", "run.user"),
        ("web:nothing", b"", "run.group"),
        ("web", b"\n" * MAX_FILE_BYTES, "run.user_file"),
    ],
)
def test_r69_childs_refusal_keeps_its_reason(
    tmp_path: Path, user: str, more: bytes, reason: str
) -> None:
    assert find(tmp_path, "web", PASSWD.encode(), GROUP.encode()) == WEB
    with pytest.raises(CcinitError) as refused:
        find(tmp_path, user, PASSWD.encode(), GROUP.encode() + more)
    assert refused.value.reason == reason


@pytest.mark.parametrize("piece", PIECES)
def test_r69_files_as_long_as_they_may_be_have_room_in_the_child(
    tmp_path: Path, piece: str
) -> None:
    """Whatever they are made of: characters, columns, lines and members all cost memory."""

    def fill(begin: str) -> bytes:
        content = begin.encode()
        count = (MAX_FILE_BYTES - len(content)) // len(piece.encode())
        return content + piece.encode() * count

    groups = "".join(f"g{number}:x:{number}:web\n" for number in range(200, 200 + MAX_GROUPS))
    found = find(tmp_path, "web", fill(PASSWD), fill(f"{groups}last:x:44:"))
    assert (found.uid, len(found.additional_gids)) == (1000, MAX_GROUPS)
