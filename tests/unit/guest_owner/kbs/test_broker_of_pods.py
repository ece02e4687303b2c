"""What a guest gets as the pod that it is: minted resources and rollback counters."""

import pytest

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import verify_debug_grant
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.rollback_counter import (
    counter_uri,
)
from guest_owner.kbs.minting import DebugOrder, IdentityOrder
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.policy_text import EMPTY_POLICY
from guest_owner.kbs.state.store import Store
from tests.unit.guest_owner.kbs.broker_values import (
    COUNTER,
    NOW,
    Guest,
    Kbs,
    outcome,
    refused,
    resource,
    step,
)

IDENTITY, GRANT = "ccinit/shop/tls-identity", "ccinit/shop/debug-grant"
DEBUG = DebugOrder(expires_s=NOW + 60, tools_root=RootHash(b"\xab" * 32), keep_pod=True)


@pytest.fixture
def kbs(store: Store) -> Kbs:
    Counters(store.root).begin(COUNTER)
    return Kbs(store)


@pytest.fixture
def guest(kbs: Kbs) -> Guest:
    """Of the pod `shop`, and attested."""
    guest = kbs.guest()
    guest.attest()
    return guest


def test_identity_is_minted_anew_for_the_pod_and_the_session_that_ask(
    kbs: Kbs, guest: Guest
) -> None:
    kbs.store.write_order(resource(IDENTITY), IdentityOrder(3600))
    envelope = verify_envelope(guest.get(IDENTITY), resource(IDENTITY), EnvelopeKind.TLS_IDENTITY)
    assert envelope.data == b"key and certificate"
    assert kbs.last()["minted"] == "tls-identity sha256:" + "ab" * 32
    asked = {"pod": "shop", "session": guest.session.label, "life_seconds": 3600}
    assert kbs.minted == [asked]
    guest.get(IDENTITY)
    assert kbs.minted == [asked, asked]


def test_grant_is_for_the_key_that_attested_and_ends_with_its_order(kbs: Kbs, guest: Guest) -> None:
    kbs.store.write_order(resource(GRANT), DEBUG)
    envelope = verify_envelope(guest.get(GRANT), resource(GRANT), EnvelopeKind.DEBUG_GRANT)
    public = guest.key.public_jwk
    grant = verify_debug_grant(envelope.data, public, NOW)
    assert (grant.tools_root, grant.keep_pod) == (DEBUG.tools_root, DEBUG.keep_pod)
    assert kbs.last()["minted"] == f"debug-grant sha256:{public.thumbprint().hex()}"
    kbs.clock.date = DEBUG.expires_s
    assert outcome(refused(guest.get, GRANT)) == (401, "PluginInternalError")
    assert kbs.last()["reason"].startswith("mint.expired: ")


@pytest.mark.parametrize("order", [IdentityOrder(3600), DEBUG])
def test_nothing_is_minted_in_the_name_of_another_pod(
    kbs: Kbs, guest: Guest, order: IdentityOrder | DebugOrder
) -> None:
    """However careless the rule, which covers every pod here."""
    for pod in ("shop", "bank"):
        kbs.store.write_order(resource(f"ccinit/{pod}/minted"), order)
    assert guest.get("ccinit/shop/minted")
    kbs.minted.clear()
    assert outcome(refused(guest.get, "ccinit/bank/minted")) == (401, "PluginInternalError")
    assert kbs.last()["reason"] == "mint.pod: kbs:///ccinit/bank/minted is not of pod shop"
    assert kbs.minted == []


def test_counter_is_read_and_moved_and_the_log_has_where_it_is(kbs: Kbs, guest: Guest) -> None:
    assert [step(guest), step(guest, 1), step(guest), step(guest, 2)] == [0, 1, 1, 2]
    released = kbs.records()[1:]
    assert [record["minted"] for record in released] == [f"counter {at}" for at in (0, 1, 1, 2)]
    assert {record["resource"] for record in released} == {str(COUNTER)}
    assert {record["decision"] for record in released} == {"released"}


@pytest.mark.parametrize(
    ("path", "asked", "reason"),
    [
        ("shop/data", {"to": 2}, "counter.taken: it is at 0, not 1"),
        ("shop/other", {}, "counter.absent: "),
        ("bank/data", {}, "counter.pod: asked for bank, the guest is shop"),
        ("bank/data", {"to": 1}, "counter.pod: asked for bank, the guest is shop"),
        ("shop", {}, "counter.path: "),
        ("shop/data/more", {}, "counter.path: "),
    ],
)
def test_counter_that_a_guest_may_not_move_or_read_stays_where_it_is(
    kbs: Kbs, guest: Guest, path: str, asked: dict[str, int], reason: str
) -> None:
    Counters(kbs.store.root).begin(counter_uri("bank", "data"))
    refusal = refused(step, guest, path=path, **asked)
    assert outcome(refusal) == (401, "PluginInternalError")
    assert kbs.last()["reason"].startswith(reason)
    assert kbs.last()["decision"] == "denied"
    assert step(guest) == 0
    assert Counters(kbs.store.root).read(counter_uri("bank", "data")).value == 0


def test_policy_decides_about_a_counter_before_it_is_looked_for(kbs: Kbs, guest: Guest) -> None:
    kbs.store.write_policy(EMPTY_POLICY)
    for path in ("shop/data", "shop/absent", "bank/data"):
        assert outcome(refused(step, guest, 1, path)) == (403, "PolicyDeny")
        assert kbs.last()["reason"] == "no rule covers the resource"
    assert Counters(kbs.store.root).read(COUNTER).value == 0


def test_counter_has_a_rule_of_its_own(kbs: Kbs, guest: Guest) -> None:
    kbs.store.edit_policy(lambda text: text.replace("ccinit/*/*", "ccinit/shop/file-*"))
    assert outcome(refused(step, guest)) == (403, "PolicyDeny")
    kbs.store.edit_policy(lambda text: text.replace("/file-*", "/rollback-counter-data"))
    assert step(guest) == 0


def test_stranger_reaches_no_counter(kbs: Kbs) -> None:
    with pytest.raises(CcinitError) as caught:
        step(kbs.guest(), 1)
    assert caught.value.reason == "kbs.TokenNotFound"
    assert Counters(kbs.store.root).read(COUNTER).value == 0


def test_counter_that_the_log_does_not_have_is_told_to_nobody(kbs: Kbs, guest: Guest) -> None:
    kbs.log.rename(kbs.log.with_name("kept"))
    kbs.log.mkdir()
    with pytest.raises(ConfigError) as caught:
        step(guest, 1)
    assert caught.value.reason == "audit.write"
