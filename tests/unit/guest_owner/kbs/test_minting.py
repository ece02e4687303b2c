import pytest

from ccinit.errors import CcinitError
from guest_owner.kbs.minting import MAX_LIFE_SECONDS, MintOrder, encode_order, parse_order


def test_order_reads_as_it_was_written() -> None:
    assert parse_order(encode_order(MintOrder(3600))) == MintOrder(3600)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "mint.json"),
        (b'{"version": 2}', "mint.version"),
        (b'{"version": 1, "kind": "volume-key", "life_seconds": 3600}', "mint.kind"),
        (b'{"version": 1, "kind": "tls-identity", "life_seconds": 3600, "x": 1}', "mint.unknown"),
        (b'{"version": 1, "kind": "tls-identity", "life_seconds": 59}', "mint.life"),
    ],
)
def test_other_orders_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_order(data)
    assert refused.value.reason == reason


def test_long_lives_are_refused() -> None:
    with pytest.raises(CcinitError) as refused:
        MintOrder(MAX_LIFE_SECONDS + 1)
    assert refused.value.reason == "mint.life"
