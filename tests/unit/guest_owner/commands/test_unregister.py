"""What commands change in the KBS's state is in its audit log, and `unregister` is one of them."""

import hashlib
import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.state import local_changes
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, POD
from tests.unit.guest_owner.command_line import error_of, run, write
from tests.unit.guest_owner.kbs.values import reference_set

USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the kernel say so, wherever the tests run."""
    login = tmp_path / "loginuid"
    login.write_text("4294967295")
    monkeypatch.setattr(local_changes, "_LOGIN_USER", login)
    return login


def told(state: Path, capsys: pytest.CaptureFixture[str]) -> list[Mapping[str, str]]:
    """The records of the log, by `audit show`."""
    capsys.readouterr()
    assert run("audit", "show", "--state", state, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def change(record: Mapping[str, str]) -> tuple[str, str, str]:
    """What a record says was done, what is there from then on and what was there before."""
    assert (record["event"], record["decision"], record["user"]) == ("admin", "accepted", USER)
    return record["request"], record.get("registered", ""), record.get("replaced", "")


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_registrations_and_removals_are_recorded_with_what_was_there_before(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, path = "initdata/shop.toml", state / "initdata/shop.toml"
    digests = []
    for number in range(2):
        document = make_document(CONFIG, f"# {number}\n{POD}")
        assert run("register", "initdata", "--state", state, write(tmp_path / "d", document)) == 0
        digests.append(f"{file} {digest(path)}")
    assert run("unregister", "--state", state, file) == 0
    assert not path.exists()
    assert list(map(change, told(state, capsys))) == [
        ("register initdata", digests[0], ""),
        ("register initdata", digests[1], digests[0]),
        ("unregister", "", digests[1]),
    ]
    assert run("audit", "show", "--state", state) == 0
    shown = capsys.readouterr().out.splitlines()[-1].split()
    assert shown[1:] == ["admin", USER, "accepted", "unregister:", *digests[1].split()]


def test_of_a_resource_its_name_alone_is_recorded(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads the log could guess a short password, and know by the digest that it is right."""
    uri, name = "kbs:///ccinit/shop/file-password", "resources/ccinit/shop/file-password"
    path = write(tmp_path / "secret", b"1234")
    for _ in range(2):
        assert run("register", "resource", "--state", state, uri, path) == 0
    assert run("unregister", "--state", state, name) == 0
    assert list(map(change, told(state, capsys))) == [
        ("register resource", name, ""),
        ("register resource", name, name),
        ("unregister", "", name),
    ]
    assert not (state / name).exists()


def test_rules_are_recorded_in_words(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allow = ("policy", "allow", "--state", state, "ccinit/shop/*", "--initdata", "shop")
    assert run(*allow) == 0
    assert run("policy", "remove", "--state", state, "2") == 1
    assert "[policy.rule.number]" in error_of(capsys)
    assert run("policy", "remove", "--state", state, "1") == 0
    rule = "ccinit/shop/*  prod  any  shop  none"
    assert list(map(change, told(state, capsys))) == [
        ("policy allow", rule, ""),
        ("policy remove", "", rule),
    ]


def test_keys_of_administrators_and_counters_are_recorded(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("admin", "new-key", "--state", state, tmp_path / "bob.pem", "--name", "bob") == 0
    assert "`guest-owner unregister admin-keys/bob.pem` takes it back" in capsys.readouterr().out
    assert run("unregister", "--state", state, "admin-keys/bob.pem") == 0
    count = ("register", "rollback-counter", "--state", state, "shop", "data")
    assert run(*count, "--value", "7") == 0
    new, removed, counter = map(change, told(state, capsys))
    assert new == ("admin new-key", "admin-keys/bob.pem", "")
    assert removed[::2] == ("unregister", removed[2])
    assert removed[2].startswith("admin-keys/bob.pem sha256:")
    assert counter[1] == "kbs+rollback-counter:///shop/data at 7"
    assert not (state / "admin-keys/bob.pem").exists()


def test_nothing_changes_that_cannot_be_recorded(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = encode_reference_set(reference_set("image"))
    register = ("register", "reference", "--state", state, write(tmp_path / "r", data))
    (state / "audit-local.jsonl").mkdir()
    assert run(*register) == 1
    assert "[audit.file]" in error_of(capsys)
    assert not Store(state).read_references().sets
    (state / "audit-local.jsonl").rmdir()
    assert run(*register) == 0
    (state / "audit-local.jsonl").rename(tmp_path / "log")
    (state / "audit-local.jsonl").mkdir()
    assert run("unregister", "--state", state, "references/image.json") == 1
    assert Store(state).read_references().sets


def test_change_that_failed_has_a_second_record(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "initdata").write_bytes(b"no folder")
    document = write(tmp_path / "d", make_document(CONFIG, POD))
    assert run("register", "initdata", "--state", state, document) == 1
    assert "[state.directory]" in error_of(capsys)
    first, second = told(state, capsys)
    assert (first["decision"], second["decision"]) == ("accepted", "refused")
    assert second["reason"].startswith("state.directory: ")
    assert second["user"] == USER


@pytest.mark.parametrize(
    "file",
    ["policy.toml", "ca-key.pem", "initdata", "initdata/../ca-key.pem", "/initdata/shop.toml", ""],
)
def test_only_registrations_are_unregistered(
    state: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    before = sorted(state.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        run("unregister", "--state", state, file)
    assert ended.value.code == 2
    assert "[unregister.path]" in error_of(capsys)
    with pytest.raises(ConfigError) as refused:
        Store(state).unregister(file)
    assert refused.value.reason == "unregister.path"
    assert run("unregister", "--state", state, "initdata/shop.toml") == 1
    assert "[unregister.absent]" in error_of(capsys)
    assert sorted(state.rglob("*")) in (before, sorted([*before, state / "changes.lock"]))


def test_who_logged_in_is_told_before_whose_process_it_is(
    state: Path, nobody_logged_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = pwd.getpwnam("nobody")
    for pod, said in enumerate((f"{nobody.pw_uid}", "4123456789", "4294967295", "")):
        nobody_logged_in.write_text(said)
        assert run("policy", "allow", "--state", state, f"a/{pod}/*", "--initdata", "shop") == 0
    users = [record["user"] for record in told(state, capsys)]
    assert users == ["nobody", "uid 4123456789", USER, USER]
