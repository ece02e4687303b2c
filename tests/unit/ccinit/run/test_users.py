"""The User field against hostile images (R69)."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from ccinit.errors import FormatError, KernelError, LimitExceededError
from ccinit.run import users
from ccinit.run.users import MAX_FILE_BYTES, MAX_ID, UserFiles, read_user_files, resolve_user
from tests.fakes.machine.scarcity import count_descriptors

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


def read(root: Path) -> UserFiles:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return read_user_files(root_fd)
    finally:
        os.close(root_fd)


def test_user_files_absent_are_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == NONE
    (tmp_path / "etc").write_text("a file")
    assert read(tmp_path) == NONE


def test_user_files_behind_links_stay_inside_the_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "usr").mkdir()
    (root / "usr" / "passwd").write_bytes(PASSWD)
    (tmp_path / "group").write_bytes(b"outside:x:1:\n")
    (root / "group").write_bytes(GROUP)
    (root / "etc" / "passwd").symlink_to("/usr/passwd")
    (root / "etc" / "group").symlink_to("../../../../group")
    assert read(root) == FILES


def test_user_file_that_cannot_be_opened_is_not_taken_for_absent(tmp_path: Path) -> None:
    before = count_descriptors()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(PASSWD)
    (tmp_path / "etc" / "group").symlink_to("group")
    with pytest.raises(KernelError) as error:
        read(tmp_path)
    assert error.value.reason == "kernel.openat2"
    (tmp_path / "etc" / "group").unlink()
    assert read(tmp_path) == UserFiles(passwd=PASSWD, group=b"")
    assert count_descriptors() == before


def test_user_file_that_cannot_be_read_is_the_kernels_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_descriptors()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(PASSWD)
    assert read(tmp_path) == UserFiles(passwd=PASSWD, group=b"")
    monkeypatch.setattr(users, "_USERS", "mem")  # of a process; nothing is mapped at 0
    with pytest.raises(KernelError) as error:
        read(Path("/proc/self"))
    assert (error.value.reason, error.value.errno) == ("kernel.read", errno.EIO)
    assert count_descriptors() == before


def test_r69_user_file_larger_than_its_cap_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with (tmp_path / "etc" / "group").open("wb") as stream:
        stream.truncate(100 << 20)
    with pytest.raises(LimitExceededError) as error:
        read(tmp_path)
    assert error.value.reason == "run.user_file"
    (tmp_path / "etc" / "group").write_bytes(bytes(MAX_FILE_BYTES))
    assert len(read(tmp_path).group) == MAX_FILE_BYTES


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_user_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "passwd"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(FormatError) as error:
        read(tmp_path)
    assert error.value.reason == "run.user_file"
