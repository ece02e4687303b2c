"""Debug grants that the KBS makes: for the session that asks, for its pod, until the order ends."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import DebugGrant, verify_debug_grant
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.minting import DebugOrder
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.attestation.test_kbs import Guest
from tests.integration.kbs.harness import Kbs, make_state, running_kbs
from tests.integration.kbs.two_pods import guest_with

SHOP = make_document(CONFIG, POD)
BANK = make_document(CONFIG, POD.replace('name = "shop"', 'name = "bank"'))
URI = parse_resource_uri("kbs:///ccinit/shop/debug-grant")
TOOLS = RootHash(b"\xab" * 32)


@pytest.fixture
def kbs(tmp_path: Path) -> Iterator[Kbs]:
    state = make_state(tmp_path)
    store = Store(state)
    for name, document in (("shop", SHOP), ("bank", BANK)):
        store.add_initdata(name, document)
    store.write_policy(
        store.policy_path.read_bytes()
        + b'[[rule]]\nresources = "ccinit/*/*"\nprofile = "prod"\ninitdata = ["bank", "shop"]\n'
    )
    with running_kbs(state) as server:
        yield server


def order(kbs: Kbs, *, seconds: int = 600) -> DebugOrder:
    made = DebugOrder(expires_s=int(time.time()) + seconds, tools_root=TOOLS, keep_pod=False)
    Store(kbs.state).write_order(URI, made)
    return made


def fetch(who: Guest, uri: ResourceUri = URI) -> tuple[bytes, DebugGrant]:
    """Return the grant's bytes, and what the guest's verification makes of them."""
    with who.client() as client:
        resource = client.get_envelope(uri, EnvelopeKind.DEBUG_GRANT)
        assert resource.date is not None
        data = resource.envelope.data
        return data, verify_debug_grant(data, resource.tee_pubkey, resource.date)


def test_each_session_gets_a_grant_for_its_own_key(kbs: Kbs) -> None:
    ordered = order(kbs)
    (first, one), (_, two) = fetch(guest_with(kbs, SHOP)), fetch(guest_with(kbs, SHOP))
    assert one.evidence_key != two.evidence_key
    for grant in (one, two):
        assert (grant.expires_s, grant.tools_root, grant.keep_pod) == (
            ordered.expires_s,
            ordered.tools_root,
            ordered.keep_pod,
        )
    # The one's grant opens nothing in the session of the other.
    with guest_with(kbs, SHOP).client() as client:
        resource = client.get_envelope(URI, EnvelopeKind.DEBUG_GRANT)
        with pytest.raises(CcinitError) as refused:
            verify_debug_grant(first, resource.tee_pubkey, int(time.time()))
    assert refused.value.reason == "debug.evidence_key"
    minted = [record["minted"] for record in kbs.audit() if record["decision"] == "released"]
    assert minted[0] == f"debug-grant sha256:{one.evidence_key.hex()}"
    assert len(set(minted)) == 3


def test_guest_of_another_pod_gets_none(kbs: Kbs) -> None:
    order(kbs)
    assert fetch(guest_with(kbs, SHOP))
    with pytest.raises(CcinitError) as refused:
        fetch(guest_with(kbs, BANK))
    assert refused.value.reason == "kbs.plugin_internal_error"
    assert "mint.pod" in str(kbs.audit()[-1]["reason"])


def test_guest_in_which_debug_was_opened_gets_none(kbs: Kbs) -> None:
    order(kbs)
    who = guest_with(kbs, SHOP)
    assert fetch(who)
    who.tpm.pcrs[15] = extend(bytes(32), bytes(32))
    with pytest.raises(CcinitError) as refused:
        fetch(who)
    assert "pcr.15" in refused.value.detail


def test_order_ends_with_its_grants(kbs: Kbs) -> None:
    order(kbs, seconds=-1)
    with pytest.raises(CcinitError) as refused:
        fetch(guest_with(kbs, SHOP))
    assert refused.value.reason == "kbs.plugin_internal_error"
    assert "mint.expired" in str(kbs.audit()[-1]["reason"])
    order(kbs)
    assert fetch(guest_with(kbs, SHOP))


def test_without_an_order_there_is_no_grant(kbs: Kbs) -> None:
    with pytest.raises(CcinitError) as refused:
        fetch(guest_with(kbs, SHOP))
    assert refused.value.reason == "kbs.plugin_internal_error"
    assert "resource.absent" in str(kbs.audit()[-1]["reason"])
