import pytest

from ccinit.attest.tee_key import generate_tee_key
from ccinit.errors import CcinitError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import verify_debug_grant
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from guest_owner.kbs.minting import (
    DebugOrder,
    IdentityOrder,
    Order,
    encode_order,
    mint_debug_grant,
    parse_order,
)

DEBUG = DebugOrder(expires_s=1_900_000_000, tools_root=RootHash(b"\xab" * 32), keep_pod=True)


@pytest.mark.parametrize(
    "order",
    [IdentityOrder(60), IdentityOrder(7 * 24 * 3600), DEBUG],
)
def test_order_reads_as_it_was_written(order: Order) -> None:
    assert parse_order(encode_order(order)) == order


def test_grant_is_for_the_key_that_asks_and_ends_with_its_order() -> None:
    key = generate_tee_key(TeeKeyAlgorithm.P256).public_jwk
    now = DEBUG.expires_s - 60
    grant = verify_debug_grant(mint_debug_grant(DEBUG, key, now), key, now)
    assert (grant.expires_s, grant.tools_root, grant.keep_pod) == (
        DEBUG.expires_s,
        DEBUG.tools_root,
        DEBUG.keep_pod,
    )
    with pytest.raises(CcinitError) as refused:
        mint_debug_grant(DEBUG, key, DEBUG.expires_s)
    assert refused.value.reason == "mint.expired"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "mint.json"),
        (encode_order(DEBUG).replace(b"{", b'{"keep_pod": false, '), "mint.duplicate"),
        (b'{"version": 2}', "mint.version"),
        (b'{"version": 1, "kind": "volume-key", "life_seconds": 3600}', "mint.kind"),
        (b'{"version": 1, "kind": "tls-identity", "life_seconds": 3600, "x": 1}', "mint.unknown"),
        (b'{"version": 1, "kind": "tls-identity", "life_seconds": 59}', "mint.life"),
        (b'{"version": 1, "kind": "debug-grant", "life_seconds": 60}', "mint.expires_s"),
        (encode_order(DEBUG).replace(b"true", b"1"), "mint.keep_pod"),
        (encode_order(DEBUG).replace(b"abab", b"ab"), "mint.tools_root"),
    ],
)
def test_other_orders_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_order(data)
    assert refused.value.reason == reason


def test_long_lives_are_refused() -> None:
    with pytest.raises(CcinitError) as refused:
        IdentityOrder(7 * 24 * 3600 + 1)
    assert refused.value.reason == "mint.life"
