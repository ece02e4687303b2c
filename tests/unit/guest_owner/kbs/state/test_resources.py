"""Resources and the policy in the owner's state directory."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.formats.kbs.release import MAX_BODY_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.kbs.minting import IdentityOrder
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.store import Store
from tests.fakes.machine.disk_log import log_disk
from tests.unit.guest_owner.kbs.values import reason_of

URI = ResourceUri("ccinit", "shop", "key")


def test_resource_is_private_and_read_back(store: Store) -> None:
    store.write_resource(URI, b"secret")
    assert store.read_resource(URI) == b"secret"
    path = store.root / "resources/ccinit/shop/key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_each_change_is_recorded_before_it_is_made(store: Store) -> None:
    recorded: list[str] = []

    @contextmanager
    def record(files: Mapping[str, bytes | None]) -> Iterator[None]:
        for file, data in files.items():
            path = store.root / file
            assert (path.read_bytes() if path.exists() else None) != data
            recorded.append(file)
        yield

    told, order = Store(store.root, record), ResourceUri("ccinit", "shop", "ordered")
    told.write_resource(URI, b"secret")
    told.write_order(order, IdentityOrder(3600))
    told.write_policy(EMPTY_POLICY + b"# another\n")
    told.delete_resource(URI)
    stored, ordered = f"resources/{URI.path}", f"minted/{order.path}"
    assert recorded == [stored, ordered, "policy.toml", stored]
    assert not store.has_resource(URI)


def test_resource_that_is_absent_empty_or_large_is_refused(store: Store) -> None:
    assert reason_of(store.read_resource, URI) == "resource.absent"
    assert reason_of(store.write_resource, URI, b"") == "resource.size"
    large = bytes(MAX_BODY_BYTES + 1)
    assert reason_of(store.write_resource, URI, large) == "resource.size"


def test_resource_that_cannot_be_removed_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise OSError(30, os.strerror(30))

    store.write_resource(URI, b"secret")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        assert reason_of(store.delete_resource, URI) == "state.remove"
    store.delete_resource(URI)
    assert reason_of(store.delete_resource, URI) == "resource.absent"


def test_resource_that_was_removed_stays_so_after_a_loss_of_power(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_resource(URI, b"secret")
    done = log_disk(monkeypatch)
    store.delete_resource(URI)
    assert done == ["remove", "flush folder"]


@pytest.mark.parametrize("bad", ["..", ".", "", "a/b", "a\0b", ".hidden"])
def test_resource_path_never_leaves_its_directory(store: Store, bad: str) -> None:
    for uri in (
        ResourceUri(bad, "shop", "key"),
        ResourceUri("ccinit", bad, "key"),
        ResourceUri("ccinit", "shop", bad),
    ):
        assert reason_of(store.read_resource, uri) == "resource.uri"
        assert reason_of(store.write_resource, uri, b"x") == "resource.uri"


def test_write_policy_keeps_the_old_one_if_the_new_does_not_parse(store: Store) -> None:
    assert reason_of(store.write_policy, b"version = 2") == "policy.version"
    assert store.policy_path.read_bytes() == EMPTY_POLICY
    assert store.read_policy().rules == ()


def test_missing_policy_is_an_error_and_not_an_empty_one(store: Store) -> None:
    store.policy_path.unlink()
    assert reason_of(store.read_policy) == "state.read"
