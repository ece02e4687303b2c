"""Secret files: content, owner, mode, and their end."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.run.secrets import MAX_SECRET_BYTES, SecretFile, erase_secrets, write_secrets
from ccinit.run.spec import BindMount
from ccinit.run.users import Identity
from ccinit.secret import Secret

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


def test_secrets_too_large_are_refused_before_writing(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    half = bytes(MAX_SECRET_BYTES // 2 + 1)
    with pytest.raises(CcinitError) as error:
        write_secrets(str(directory), (secret("/a", half), secret("/b", half)), ME)
    assert error.value.reason == "run.secret"
    assert not directory.exists()


def test_secrets_never_go_to_a_place_that_exists(tmp_path: Path) -> None:
    with pytest.raises(CcinitError) as error:
        write_secrets(str(tmp_path), (secret("/a", b"x"),), ME)
    assert error.value.reason == "kernel.write_secret"
