"""The User field against hostile images (R69)."""

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccinit.errors import FormatError, KernelError, LimitExceededError
from ccinit.formats.encoding import wire
from ccinit.formats.oci.user import MAX_ID
from ccinit.run.users import (
    GROUPS,
    MAX_FILE_BYTES,
    MAX_HOME_CHARACTERS,
    USERS,
    Identity,
    UserFiles,
    UserRequest,
    resolve_user,
    user_job,
)

PASSWD = b"""\
# a comment:x:1:1:::
root:x:0:0:root:/root:/bin/sh
broken:x:notanumber:0::/:/bin/sh
short:x:7
web:x:1000:100:Web:/srv/web:/bin/sh
web:x:2000:2000:second:/elsewhere:/bin/sh
huge:x:4294967296:0::/:/bin/sh
"""
GROUP = b"""\
root:x:0:
users:x:100:web
video:x:44:root,web
audio:x:29:other,web
broken:x:x:web
"""
FILES = UserFiles(passwd=PASSWD, group=GROUP)
NONE = UserFiles(passwd=b"", group=b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (44,))),
        ("root", (0, 0, (44,))),
        ("0", (0, 0, (44,))),
        ("web", (1000, 100, (29, 44))),
        ("1000", (1000, 100, (29, 44))),
        ("web:users", (1000, 100, ())),
        ("web:0", (1000, 0, ())),
        ("12345", (12345, 0, ())),
        ("12345:54321", (12345, 54321, ())),
        ("12345:video", (12345, 44, ())),
        ("007", (7, 0, ())),
        (str(MAX_ID), (MAX_ID, 0, ())),
    ],
)
def test_user_is_resolved(text: str, expected: tuple[int, int, tuple[int, ...]]) -> None:
    identity = resolve_user(text, FILES)
    assert (identity.uid, identity.gid, identity.additional_gids) == expected


def test_user_home_is_that_of_the_first_entry() -> None:
    assert resolve_user("web", FILES).home == "/srv/web"
    assert resolve_user("12345", FILES).home == ""


def test_user_without_files_can_be_a_number() -> None:
    assert resolve_user("", NONE).uid == 0
    assert resolve_user("1000:1000", NONE).gid == 1000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4294967295", "run.user"),
        ("4294967296", "run.user"),
        ("99999999999999999999", "run.user"),
        ("00000000007", "run.user"),
        ("-1", "run.user"),
        ("+1", "run.user"),
        ("root\n", "run.user"),
        ("ro ot", "run.user"),
        ("r\u00f6ot", "run.user"),
        ("\u0661", "run.user"),
        ("nobody-here", "run.user"),
        ("broken", "run.user"),
        ("short", "run.user"),
        ("huge", "run.user"),
        ("x" * 257, "run.user"),
        ("web:", "run.group"),
        ("web:nothing", "run.group"),
        ("web:-1", "run.group"),
        ("web:4294967295", "run.group"),
        ("web:users:more", "run.group"),
        ("web:broken", "run.group"),
    ],
)
def test_r69_user_malformed_or_unknown_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        resolve_user(text, FILES)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    "name", ["-1", "+x", "ro ot", "r\u00f6ot", "\u0661", "a\tb", "a\x7f", "x" * 257]
)
def test_r69_name_of_another_form_is_refused_though_the_image_has_it(name: str) -> None:
    files = UserFiles(
        passwd=f"web:x:7:7::/:\n{name}:x:7:7::/:\n".encode(),
        group=f"users:x:7:\n{name}:x:7:\n".encode(),
    )
    assert resolve_user("web:users", files).uid == 7
    for text, reason in ((name, "run.user"), (f"web:{name}", "run.group")):
        with pytest.raises(FormatError) as error:
            resolve_user(text, files)
        assert error.value.reason == reason


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("#web:x:42:9::/:", id="comment"),
        pytest.param(":x:42:9::/:", id="no-name"),
        pytest.param("web:x:\u0664\u0662:9::/:", id="other-digits"),
        pytest.param("web:x:42:\u0669::/:", id="other-digits-of-the-group"),
        pytest.param("web:x:0000000000042:9::/:", id="many-digits"),
        pytest.param("web:x:42:x::/:", id="no-group"),
        pytest.param("web:x:42", id="too-few"),
    ],
)
def test_line_of_another_form_is_nobodys(line: str) -> None:
    def primary_group(passwd: str) -> int:
        return resolve_user("42", UserFiles(passwd=passwd.encode(), group=b"")).gid

    assert primary_group(f"{line}\n") == 0
    assert primary_group(f"{line}\nweb:x:42:9::/:\n") == 9


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ("app:x:42:9:An app:/srv/app:/bin/sh", "/srv/app"),
        ("app:x:42:9:An app:/srv/app", "/srv/app"),
        ("app:x:42:9:An app", ""),
        ("app:x:42:9", ""),
        ("app::42:9:", ""),
        ("app:x:42:9::/srv/app:/bin/sh:more", "/srv/app"),
    ],
)
def test_line_of_a_user_may_be_as_short_as_the_c_library_reads_it(line: str, home: str) -> None:
    assert read_by_the_c_library(line) == ("app", 42, 9, home)
    found = resolve_user("app", UserFiles(passwd=line.encode(), group=b""))
    assert (found.uid, found.gid, found.home) == (42, 9, home)


@pytest.mark.parametrize("line", ["app:x:42:web", "app:x:42:", "app:x:42", "app::42"])
def test_line_of_a_group_may_leave_out_its_members(line: str) -> None:
    files = UserFiles(passwd=b"web:x:7:7", group=line.encode())
    assert resolve_user("web:app", files).gid == 42
    assert resolve_user("web", files).additional_gids == ((42,) if line.endswith("web") else ())


class Entry(ctypes.Structure):
    """`struct passwd` (pwd.h)."""

    _fields_ = (
        *(("name", ctypes.c_char_p), ("password", ctypes.c_char_p)),
        *(("uid", ctypes.c_uint), ("gid", ctypes.c_uint)),
        *(("comment", ctypes.c_char_p), ("home", ctypes.c_char_p), ("shell", ctypes.c_char_p)),
    )


def read_by_the_c_library(line: str) -> tuple[str, int, int, str]:
    """Return name, user, group and home by fgetpwent(3), which programs in the image go by."""
    library = ctypes.CDLL(None)
    library.fmemopen.restype = ctypes.c_void_p
    library.fgetpwent.restype = ctypes.POINTER(Entry)
    library.fclose.argtypes = library.fgetpwent.argtypes = (ctypes.c_void_p,)
    text = line.encode()
    stream = library.fmemopen(text, ctypes.c_size_t(len(text)), b"r")
    entry = library.fgetpwent(stream).contents
    found = (entry.name.decode(), entry.uid, entry.gid, entry.home.decode())
    library.fclose(stream)
    return found


def test_user_in_too_many_groups_is_refused() -> None:
    lines = b"".join(b"g%d:x:%d:web\n" % (number, number) for number in range(200, 1225))
    with pytest.raises(LimitExceededError) as error:
        resolve_user("web", UserFiles(passwd=PASSWD, group=lines))
    assert error.value.reason == "run.group"


@pytest.mark.parametrize(("more", "reason"), [(0, ""), (1, "run.user_file")])
def test_home_that_is_longer_than_any_path_is_refused(more: int, reason: str) -> None:
    home = "/" * (MAX_HOME_CHARACTERS + more)
    files = UserFiles(passwd=f"web:x:7:7::{home}:\n".encode(), group=b"")
    assert resolve_user("8", files).home == ""
    if not reason:
        assert resolve_user("web", files).home == home
        return
    with pytest.raises(LimitExceededError) as error:
        resolve_user("web", files)
    assert error.value.reason == reason


def do_job(user: str, *paths: Path) -> Identity:
    """Do the child's job, as it is asked for, with the files that bear these names."""
    fds = {f"/etc/{path.name}": os.open(path, os.O_RDONLY) for path in paths}
    try:
        request = wire.decode(UserRequest, wire.encode(UserRequest(user=user)))
        found = user_job(request, SimpleNamespace(fds=fds))
        return wire.decode(Identity, wire.encode(found))
    finally:
        for fd in fds.values():
            os.close(fd)


def test_job_resolves_by_the_files_that_it_is_given(tmp_path: Path) -> None:
    passwd, group = tmp_path / "passwd", tmp_path / "group"
    assert {USERS, GROUPS} == {"/etc/passwd", "/etc/group"}
    passwd.write_bytes(PASSWD)
    group.write_bytes(GROUP)
    assert do_job("web", passwd, group) == resolve_user("web", FILES)
    assert do_job("web", passwd).additional_gids == ()
    assert do_job("7:video", group).gid == 44
    assert do_job("7") == resolve_user("7", NONE)


def test_r69_user_file_larger_than_its_cap_is_refused(tmp_path: Path) -> None:
    group = tmp_path / "group"
    with group.open("wb") as stream:
        stream.truncate(100 << 20)
    with pytest.raises(LimitExceededError) as error:
        do_job("7", group)
    assert error.value.reason == "run.user_file"
    group.write_bytes(bytes(MAX_FILE_BYTES))
    assert do_job("7", group).uid == 7


def test_user_file_that_cannot_be_read_is_the_kernels_refusal() -> None:
    fds = {USERS: os.open("/proc/self/mem", os.O_RDONLY)}  # nothing is mapped at 0
    with pytest.raises(KernelError) as error:
        user_job(UserRequest(user="7"), SimpleNamespace(fds=fds))
    os.close(fds[USERS])
    assert (error.value.reason, error.value.errno) == ("kernel.read", errno.EIO)
