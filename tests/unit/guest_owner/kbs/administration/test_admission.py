"""Who may make an administrator's call."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.formats.kbs.resource_uri import parse_resource_uri
from guest_owner.kbs.administration.administrators import add_administrator
from guest_owner.kbs.administration.calls import AdminCall, Administration
from guest_owner.kbs.administration.token import sign_admin_token
from guest_owner.kbs.audit.log import AuditLog, read_audit
from guest_owner.kbs.refusal import Variant
from guest_owner.kbs.state.store import Store
from tests.unit.guest_owner.kbs.administration.told_calls import refused, told

NOW = 1_790_000_000
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
TOKEN = sign_admin_token(KEY, now=NOW, life_seconds=600)
URI = parse_resource_uri("kbs:///ccinit/shop/key", "uri")


class Door:
    """An administration with one administrator, at a time of the test's."""

    def __init__(self, store: Store, log: Path) -> None:
        self.now = float(NOW)
        self.keys = store.root / "admin-keys"
        form: Any = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        add_administrator(store.root, "alice", KEY.public_key().public_bytes(*form))
        self.administration = Administration(store, AuditLog(log), lambda: self.now)

    def enter(self, token: str | None) -> AdminCall:
        return self.administration.authorize(token, "POST /path")


@pytest.fixture
def door(store: Store, log: Path) -> Door:
    return Door(store, log)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "admin.form"),
        ("", "admin.form"),
        (sign_admin_token(OTHER, now=NOW, life_seconds=600), "admin.signature"),
        (sign_admin_token(KEY, now=NOW - 600, life_seconds=600), "admin.time"),
        (sign_admin_token(KEY, now=NOW + 3600, life_seconds=600), "admin.time"),
    ],
)
def test_who_shows_no_valid_token_is_refused_and_only_the_log_says_why(
    door: Door, log: Path, token: str | None, reason: str
) -> None:
    assert refused(door.enter, token) == (Variant.ADMIN_AUTH_ACCESS, 401, "admin access denied")
    assert told(log) == [("refused", reason, "")]
    (record,) = read_audit(log)
    assert record["request"] == "POST /path"
    door.enter(TOKEN).put_resource(URI.path, b"x")
    assert told(log)[1:] == [("accepted", "", "alice")]


def test_token_counts_no_longer_once_it_or_its_key_has_gone(door: Door, log: Path) -> None:
    door.enter(TOKEN)
    door.now = NOW + 600
    assert refused(door.enter, TOKEN)[0] is Variant.ADMIN_AUTH_ACCESS
    door.now = NOW
    door.enter(TOKEN)
    (door.keys / "alice.pem").unlink()
    assert refused(door.enter, TOKEN)[0] is Variant.ADMIN_AUTH_ACCESS
    assert told(log) == [("refused", "admin.time", ""), ("refused", "admin.closed", "")]


def test_key_that_cannot_be_read_lets_nobody_in_and_is_trouble_of_the_kbs(
    door: Door, log: Path
) -> None:
    (door.keys / "bob.pem").write_bytes(b"no key")
    assert refused(door.enter, TOKEN) == (Variant.ADMIN_AUTH_ACCESS, 500, "admin access denied")
    assert told(log) == [("refused", "admin.key", "")]
    (door.keys / "bob.pem").unlink()
    door.enter(TOKEN)
