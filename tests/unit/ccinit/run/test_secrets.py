"""Secret files: content, owner, mode, and their end."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.pod.secret import MAX_FILES_BYTES
from ccinit.run.secrets import erase_secrets, replace_secrets, write_secrets
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, SecretFile
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.machine.scarcity import count_descriptors

ME = Identity(uid=os.getuid(), gid=os.getgid(), additional_gids=(), home="")


def secret(path: str, content: bytes, mode: int = 0o400) -> SecretFile:
    return SecretFile(path=path, mode=mode, content=Secret(content))


def test_secrets_are_written_as_asked_and_shown_read_only(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    binds = write_secrets(
        str(directory), (secret("/run/a", b"A"), secret("/etc/../b", b"BB" * 70_000, 0o644)), ME
    )
    assert binds == (
        BindMount(source=f"{directory}/0", target="/run/a", read_only=True),
        BindMount(source=f"{directory}/1", target="/etc/../b", read_only=True),
    )
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "0").read_bytes() == b"A"
    assert (directory / "0").stat().st_mode & 0o7777 == 0o400
    assert (directory / "1").read_bytes() == b"BB" * 70_000
    assert (directory / "1").stat().st_mode & 0o7777 == 0o644


def test_secrets_erased_are_overwritten_and_gone(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    write_secrets(str(directory), (secret("/a", b"content" * 20_000, 0o600),), ME)
    kept = tmp_path / "another name"
    os.link(directory / "0", kept)
    erase_secrets(str(directory))
    assert not directory.exists()
    assert kept.read_bytes() == bytes(7 * 20_000)
    erase_secrets(str(directory))


def test_secret_is_its_users_before_anyone_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, object]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, *owner: steps.append(("owner", owner)))
    monkeypatch.setattr(os, "fchmod", lambda _fd, mode: steps.append(("mode", mode)))
    identity = Identity(uid=1000, gid=100, additional_gids=(44,), home="")
    write_secrets(str(tmp_path / "secrets"), (secret("/a", b"A", 0o440),), identity)
    assert steps == [("owner", (1000, 100)), ("mode", 0o440)]
    assert (tmp_path / "secrets" / "0").stat().st_mode & 0o777 == 0o600


def test_secrets_are_written_and_overwritten_whole_a_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, kept = tmp_path / "secrets", tmp_path / "kept"
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    before = count_descriptors()
    write_secrets(str(directory), (secret("/a", b"0123456789" * 3, 0o600),), ME)
    assert (directory / "0").read_bytes() == b"0123456789" * 3
    kept.hardlink_to(directory / "0")
    erase_secrets(str(directory))
    assert kept.read_bytes() == bytes(30)
    assert count_descriptors() == before


def test_secret_that_cannot_be_erased_keeps_no_other_one(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    names = ("/a", "/b", "/c", "/d/e")
    files = tuple(secret(name, b"content", 0o600) for name in names[:3])
    write_secrets(str(directory), (*files, replace(files[0], path=names[3], rotates=True)), ME)
    places = ("0", "1", "2", "directory-0/e")
    kept = {place: tmp_path / place.replace("/", "-") for place in places}
    for place, path in kept.items():
        os.link(directory / place, path)
    (directory / "1").unlink()
    (directory / "1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CcinitError) as error:
        erase_secrets(str(directory))
    assert (error.value.reason, str(directory / "1") in error.value.detail) == (
        "kernel.erase_secret",
        True,
    )
    assert [path.read_bytes() for path in kept.values()] == [bytes(7), b"content", *[bytes(7)] * 2]


def test_link_among_secrets_is_not_followed(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    write_secrets(str(directory), (secret("/a", b"A"),), ME)
    (tmp_path / "elsewhere").write_bytes(b"not a secret")
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CcinitError) as error:
        erase_secrets(str(directory))
    assert error.value.reason == "kernel.erase_secret"
    assert (tmp_path / "elsewhere").read_bytes() == b"not a secret"
    (directory / "link").unlink()
    erase_secrets(str(directory))
    assert not directory.exists()


def test_secrets_too_large_are_refused_before_writing(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    half = bytes(MAX_FILES_BYTES // 2 + 1)
    with pytest.raises(CcinitError) as error:
        write_secrets(str(directory), (secret("/a", half), secret("/b", half)), ME)
    assert error.value.reason == "run.secret"
    assert not directory.exists()
    assert write_secrets(str(directory), (secret("/a", half[1:]), secret("/b", half[1:])), ME)


def test_secrets_never_go_to_a_place_that_exists(tmp_path: Path) -> None:
    with pytest.raises(CcinitError) as error:
        write_secrets(str(tmp_path), (secret("/a", b"x"),), ME)
    assert error.value.reason == "kernel.write_secret"


def rotating(path: str, content: bytes, mode: int = 0o400) -> SecretFile:
    return SecretFile(path=path, mode=mode, content=Secret(content), rotates=True)


def test_secrets_that_rotate_are_shown_by_their_directory(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    files = (secret("/etc/b", b"B"), rotating("/run/s/a", b"A", 0o440), rotating("/run/s/c", b"C"))
    binds = write_secrets(str(directory), files, ME)
    assert binds == (
        BindMount(source=f"{directory}/0", target="/etc/b", read_only=True),
        BindMount(source=f"{directory}/directory-0", target="/run/s", read_only=True),
    )
    shown = directory / "directory-0"
    assert sorted(path.name for path in shown.iterdir()) == ["a", "c"]
    assert (shown / "a").read_bytes() == b"A"
    assert (shown / "a").stat().st_mode & 0o7777 == 0o440
    assert shown.stat().st_mode & 0o777 == 0o755
    kept = tmp_path / "another name"
    os.link(shown / "a", kept)
    erase_secrets(str(directory))
    assert not directory.exists()
    assert kept.read_bytes() == b"\0"


def test_secret_that_is_replaced_is_one_or_the_other_and_never_absent(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    files = (rotating("/run/s/a", b"old" * 9), rotating("/run/s/c", b"C"))
    write_secrets(str(directory), files, ME)
    shown = directory / "directory-0"
    with (shown / "a").open("rb") as opened:
        replace_secrets(str(directory), files, (rotating("/run/s/a", b"new", 0o440),), ME)
        assert opened.read() == b"old" * 9  # who had it open keeps what it was
    assert (shown / "a").read_bytes() == b"new"
    assert (shown / "a").stat().st_mode & 0o7777 == 0o440
    assert (shown / "c").read_bytes() == b"C"
    assert sorted(path.name for path in directory.rglob("*")) == ["a", "c", "directory-0"]


def test_secret_that_cannot_be_replaced_stays_whole(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    files = (rotating("/run/s/a", b"old"),)
    write_secrets(str(directory), files, ME)
    too_large = rotating("/run/s/a", bytes(MAX_FILES_BYTES + 1))
    with pytest.raises(CcinitError) as error:
        replace_secrets(str(directory), files, (too_large,), ME)
    assert error.value.reason == "run.secret"
    (directory / "fresh").mkdir()
    with pytest.raises(CcinitError) as error:
        replace_secrets(str(directory), files, (rotating("/run/s/a", b"new"),), ME)
    assert error.value.reason == "kernel.write_secret"
    assert (directory / "directory-0/a").read_bytes() == b"old"


def test_secret_that_could_not_be_replaced_once_can_be_replaced_later(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    files = (rotating("/run/s/a", b"old"),)
    write_secrets(str(directory), files, ME)
    shown = directory / "directory-0"
    shown.rename(tmp_path / "away")
    with pytest.raises(CcinitError) as error:
        replace_secrets(str(directory), files, (rotating("/run/s/a", b"new"),), ME)
    assert error.value.reason == "kernel.write_secret"
    assert list(directory.iterdir()) == []  # nothing of the new one stays
    (tmp_path / "away").rename(shown)
    replace_secrets(str(directory), files, (rotating("/run/s/a", b"new"),), ME)
    assert (shown / "a").read_bytes() == b"new"
