"""A volume's key, which the store may have the last copy of, and what may take its place."""

import threading
from pathlib import Path

import pytest

from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.kbs.exclusion import changing
from guest_owner.kbs.state.store import Store
from tests.unit.ccinit.formats.signature.image_policy_cases import policy
from tests.unit.guest_owner.command_line import error_of, run, write


@pytest.mark.parametrize("flags", [("--envelope",), ()])
def test_volume_key_is_not_replaced_by_another_unasked(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    """What lies in the store may be its last copy, and the volume opens with no other key."""
    uri = ResourceUri("ccinit", "shop", "volume-key-data")
    for name in ("own", "other"):
        assert run("volume-key", "new", tmp_path / name) == 0
    register = ("register", "resource", "--state", state, "--kind", "volume-key", *flags, uri)
    assert run(*register, tmp_path / "own") == 0
    before = Store(state).read_resource(uri)
    capsys.readouterr()
    assert run(*register, tmp_path / "other") == 1
    assert error_of(capsys) == (
        f"guest-owner: {uri} holds another key, and its volume opens with no other: if you have a "
        f"copy, or the volume is gone, `guest-owner unregister resources/{uri.path}`, or DELETE "
        "over the network, first [resource.volume_key]\n"
    )
    assert Store(state).read_resource(uri) == before
    again = ("--create", "--envelope") if flags else ()  # the same one may come with other words
    assert run(*register, tmp_path / "own", *again) == 0
    (state / "resources" / uri.path).unlink()
    assert run(*register, tmp_path / "other") == 0


@pytest.mark.parametrize("stored", [("--kind", "volume-key", "--envelope"), ()])
def test_volume_key_is_not_replaced_by_what_is_none(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: tuple[str, ...]
) -> None:
    """Whoever leaves --kind away, or mistakes the name, would lose it in the same way."""
    uri = ResourceUri("ccinit", "shop", "volume-key-data")
    assert run("volume-key", "new", tmp_path / "own") == 0
    register = ("register", "resource", "--state", state, uri)
    assert run(*register, tmp_path / "own", *stored) == 0
    before = Store(state).read_resource(uri)
    another = write(tmp_path / "another", policy({"type": "reject"}))
    for command in (
        (*register, another),
        (*register, another, "--kind", "file", "--envelope"),
        ("register", "image-policy", "--state", state, uri, another),
    ):
        assert run(*command) == 1
        assert "[resource.volume_key]" in error_of(capsys)
        assert Store(state).read_resource(uri) == before
    assert run(*register, tmp_path / "own") == 0  # the same key


def test_random_secret_of_a_volume_keys_length_is_replaced(state: Path, tmp_path: Path) -> None:
    uri = ResourceUri("ccinit", "shop", "session-key")
    for envelope in ((), ("--kind", "file", "--envelope")):
        for name in ("old", "new"):
            (tmp_path / name).unlink(missing_ok=True)
            assert run("volume-key", "new", tmp_path / name) == 0
            secret = tmp_path / name
            assert run("register", "resource", "--state", state, uri, secret, *envelope) == 0


def test_what_is_no_volume_key_is_replaced_by_one(state: Path, tmp_path: Path) -> None:
    uri = ResourceUri("ccinit", "shop", "volume-key-data")
    assert run("volume-key", "new", tmp_path / "key") == 0
    Store(state).write_resource(uri, b"not random")
    kind = ("--kind", "volume-key", "--envelope")
    assert run("register", "resource", "--state", state, *kind, uri, tmp_path / "key") == 0


def test_key_that_another_registers_meanwhile_is_not_replaced(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is there is looked at once it can no longer change."""
    uri = ResourceUri("ccinit", "shop", "volume-key-data")
    for name in ("own", "other"):
        assert run("volume-key", "new", tmp_path / name) == 0
    register = ("register", "resource", "--state", state, "--kind", "volume-key", uri)
    codes: list[int] = []
    late = threading.Thread(target=lambda: codes.append(run(*register, tmp_path / "other")))
    with changing(state):
        late.start()
        late.join(0.3)
        assert run(*register, tmp_path / "own") == 0
    late.join(60)
    assert codes == [1]
    assert "[resource.volume_key]" in error_of(capsys)
    assert Store(state).read_resource(uri) == (tmp_path / "own").read_bytes()
