"""`guest-owner kbs`: what it leaves behind if it does not come to its end."""

import errno
import fcntl
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from guest_owner.kbs import exclusion
from guest_owner.kbs.exclusion import held_alone
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from tests.unit.guest_owner.command_line import error_of, run, status_of_wrong_usage


def test_second_server_of_a_state_is_refused(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_alone(state, "the first"):
        assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0") == 1
    assert "another `kbs serve` has it [state.held]" in error_of(capsys)


def test_state_has_a_policy_before_it_has_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    (state / "ca-key.pem").mkdir(parents=True)  # as if another init had come to this point
    assert run("kbs", "init", "--state", state, "--name", "kbs.example") == 1
    assert "[identity.half]" in error_of(capsys)
    assert (state / "policy.toml").read_bytes() == EMPTY_POLICY


def test_init_with_a_bad_name_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("kbs", "init", "--state", tmp_path / "state", "--name", "a b")
    assert status_of_wrong_usage(*words) == 2
    assert "[certificate.name]" in error_of(capsys)
    assert not (tmp_path / "state").exists()


def test_key_with_a_passphrase_is_told_and_nobody_is_asked_for_it(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = load_pem_private_key((state / "server-key.pem").read_bytes(), None)
    sealed = tmp_path / "sealed.pem"
    encryption = BestAvailableEncryption(b"passphrase")
    sealed.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0", "--key", sealed)
    assert run(*serve) == 1
    words = error_of(capsys)
    assert "passphrase" in words
    assert "[tls.certificate]" in words


@pytest.mark.parametrize("name", ["server.pem", "server-key.pem"])
@pytest.mark.parametrize("kept_bytes", [0, 100])
def test_half_a_certificate_or_key_is_not_called_one_with_a_passphrase(
    state: Path, name: str, kept_bytes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever believed it would take a good key for a bad one."""
    (state / name).write_bytes((state / name).read_bytes()[:kept_bytes])
    assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0") == 1
    words = error_of(capsys)
    assert (
        f"{state / 'server.pem'} and {state / 'server-key.pem'} as certificate and key: " in words
    )
    what = "private key" if "key" in name else "certificate"
    assert ("cut short" if kept_bytes else f"there is no {what} in PEM") in words
    assert "passphrase" not in words


def test_address_that_is_taken_is_told_as_it_was_given(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(address: tuple[str, int], **_options: object) -> socket.socket:
        error = os.strerror(errno.EADDRINUSE)  # and more, from the real one
        raise OSError(errno.EADDRINUSE, f"{error} (while attempting to bind on address {address})")

    monkeypatch.setattr(socket, "create_server", create)
    assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:443") == 1
    told = "guest-owner: cannot listen on 127.0.0.1:443: Address already in use [listen.address]\n"
    assert error_of(capsys) == told


def test_renewal_that_was_killed_between_its_files_is_told_with_what_repairs_it(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def replace(unfinished: Path, path: Path) -> Path:
        if path.name == "server.pem":
            raise Killed
        return unfinished.rename(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            run("kbs", "new-certificate", "--state", state)
    assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0") == 1
    words = error_of(capsys)
    assert "[tls.certificate]" in words
    assert (
        "the key does not belong to the certificate; `guest-owner kbs new-certificate` renews"
        in words
    )
    assert run("kbs", "new-certificate", "--state", state) == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "server.pem", state / "server-key.pem")


class FakeServer:
    """Serves nobody, and ends at once."""

    started = True

    def __init__(self, look: Callable[[], Iterable[str]]) -> None:
        self.look = look

    def run(self, sockets: list[socket.socket]) -> None:
        assert sockets


@pytest.fixture
def serving_nobody(monkeypatch: pytest.MonkeyPatch) -> list[FakeServer]:
    """Have `kbs serve` make servers like that; return those that it has made."""
    made: list[FakeServer] = []

    def build(*_: object, look: Callable[[], Iterable[str]], **__: object) -> FakeServer:
        made.append(FakeServer(look))
        return made[-1]

    monkeypatch.setattr("guest_owner.commands.kbs.build_server", build)
    monkeypatch.setattr("guest_owner.commands.kbs.open_listener", lambda *_: socket.socket())
    return made


@pytest.mark.usefixtures("serving_nobody")
def test_server_begins_by_removing_what_was_never_put_in_its_place(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = state / "resources/a/b/.new-1234"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of a secret")
    assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0") == 0
    assert "serving on https://" in capsys.readouterr().out
    assert not left.exists()


@pytest.mark.usefixtures("serving_nobody")
def test_server_begins_while_a_backup_is_made(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exclusion, "WAIT_SECONDS", 0.05)
    left = state / "resources/a/b/.new-1234"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of a secret")
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0")
    with (state / exclusion.LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(*serve) == 0
    assert (
        f"guest-owner: warning: {state / 'changes.lock'} is held, by a backup, say: "
        in error_of(capsys)
    )
    assert left.exists()
    assert run(*serve) == 0
    assert not left.exists()
    assert "is held" not in error_of(capsys)


@pytest.mark.usefixtures("serving_nobody")
@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("policy.toml", "version = 2\n", "policy.version"),
        ("references/next.json", '{"version": 2}', "reference.version"),
        ("minted/ccinit/shop/tls-identity", '{"version": 2}', "mint.version"),
        ("rollback-counters/shop/data.json", '{"version": 2}', "counter.version"),
    ],
)
def test_server_does_not_begin_on_a_state_of_another_version(
    state: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, reason: str
) -> None:
    path = state / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0")
    assert run(*serve) == 1
    words = error_of(capsys)
    assert f"{path}: " in words
    assert f"[{reason}]" in words
    assert "is it of a newer guest-owner?" in words
    path.unlink()
    (state / "policy.toml").write_bytes(EMPTY_POLICY)
    assert run(*serve) == 0


@pytest.mark.usefixtures("serving_nobody")
def test_server_does_not_begin_beside_half_of_another_owners_authority(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each guest's TLS identity would be refused by the guest, as of nobody's authority."""
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0")
    for name in (state, tmp_path / "next"):
        name.mkdir(exist_ok=True)
        assert run("client-ca", "init", "--state", name) == 0
    own = (state / "owner-ca.pem").read_bytes()
    (state / "owner-ca.pem").write_bytes((tmp_path / "next/owner-ca.pem").read_bytes())
    assert run(*serve) == 1
    assert "[owner_ca.key]" in error_of(capsys)
    (state / "owner-ca.pem").write_bytes(own)
    assert run(*serve) == 0


@pytest.mark.usefixtures("serving_nobody")
@pytest.mark.parametrize("lost", ["owner-ca.pem", "owner-ca-key.pem"])
def test_server_does_not_begin_with_half_of_the_authority_that_it_mints_by(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    uri = "kbs:///ccinit/shop/tls-identity"
    assert run("register", "tls-identity", "--state", state, uri) == 0
    (state / lost).rename(tmp_path / lost)
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0")
    assert run(*serve) == 1
    words = error_of(capsys)
    assert "put the other back" in words
    assert "[owner_ca.half]" in words
    assert "client-ca init" not in words  # which would refuse
    (tmp_path / lost).rename(state / lost)
    assert run(*serve) == 0


@pytest.mark.usefixtures("serving_nobody")
def test_server_that_mints_nothing_begins_without_the_authoritys_key(state: Path) -> None:
    assert run("client-ca", "init", "--state", state) == 0
    (state / "owner-ca-key.pem").unlink()  # it may be kept elsewhere
    assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0") == 0


def test_server_warns_of_a_certificate_that_ends(
    state: Path,
    serving_nobody: list[FakeServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0")
    assert run(*serve) == 0
    assert "warning" not in capsys.readouterr().err
    assert not list(serving_nobody[0].look())
    monkeypatch.setattr("guest_owner.kbs.authority.SERVER_LIFE", timedelta(days=20))
    assert run("kbs", "new-certificate", "--state", state) == 0
    assert run(*serve) == 0
    assert f"guest-owner: warning: {state}/server.pem expires on " in capsys.readouterr().err
    (told,) = serving_nobody[0].look()  # which was started when there was nothing to be told
    assert told.startswith(f"{state}/server.pem expires on ")


def test_renewal_says_for_whom_and_asks_for_names_that_it_cannot_find(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate without the name of one guest's kbs.url turns that guest away."""
    renew = ("kbs", "new-certificate", "--state", state)
    assert run(*renew, "--name", "kbs.example", "--name", "192.0.2.7") == 0
    told = f"wrote {state}/server.pem for kbs.example, 192.0.2.7, valid until "
    assert told in capsys.readouterr().out
    assert run(*renew) == 0
    assert told in capsys.readouterr().out
    (state / "server.pem").write_text("damaged")
    assert run(*renew) == 1
    assert error_of(capsys).endswith(
        "give each name by which guests reach the KBS: --name [tls.certificate]\n"
    )
    assert run(*renew, "--name", "kbs.example") == 0
    assert "for kbs.example, valid until " in capsys.readouterr().out


@pytest.mark.usefixtures("serving_nobody")
def test_server_warns_of_a_state_that_anybody_may_write(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve = ("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0")
    state.chmod(0o777)
    assert run(*serve) == 0
    told = f"guest-owner: warning: every user of this machine may write {state}, and so says"
    assert told in error_of(capsys)
    state.chmod(0o755)
    assert run(*serve) == 0
    assert not error_of(capsys)


@pytest.mark.usefixtures("serving_nobody")
def test_server_warns_of_an_owners_authority_that_ends(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("guest_owner.plane.authority.AUTHORITY_LIFE", timedelta(days=300))
    assert run("client-ca", "init", "--state", state) == 0
    assert run("kbs", "serve", "--state", state, "--listen", "127.0.0.1:0") == 0
    assert f"guest-owner: warning: {state}/owner-ca.pem expires on " in capsys.readouterr().err
