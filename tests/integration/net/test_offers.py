"""Offers as clouds and clusters make them: the first connection goes through the gateway."""

import pytest

from tests.integration.net.namespaces import run_apart

pytestmark = pytest.mark.usefixtures("as_root")


def take_offer(address: str, prefix: int, gateway: str) -> dict[str, str]:
    """Let a guest with nothing else take an offer; return what came of it."""
    seen: dict[str, str] = run_apart(
        "tests.integration.net.offer_program", address, str(prefix), gateway
    )
    return seen


@pytest.mark.parametrize(
    ("address", "prefix", "gateway"),
    [
        pytest.param("10.9.9.7", 24, "10.9.9.1", id="subnet"),
        pytest.param("10.9.9.2", 31, "10.9.9.3", id="two-hosts"),
        pytest.param("10.128.0.2", 32, "10.128.0.1", id="alone"),
        pytest.param("10.244.7.9", 32, "169.254.1.1", id="alone-with-a-link-local-gateway"),
        pytest.param("fd00:9::7", 64, "fd00:9::1", id="IPv6-subnet"),
        pytest.param("2001:db8:9::7", 64, "fe80::1", id="IPv6-router"),
        pytest.param("2001:db8:9::a", 127, "2001:db8:9::b", id="IPv6-two-hosts"),
        pytest.param("fd00:9::7", 128, "fe80::1", id="IPv6-alone"),
        pytest.param("fd00:9::7", 128, "fd00:8::1", id="IPv6-alone-with-a-gateway-elsewhere"),
    ],
)
def test_first_connection_goes_through_the_offered_gateway(
    address: str, prefix: int, gateway: str
) -> None:
    seen = take_offer(address, prefix, gateway)
    assert seen["offer"] == ""
    assert f"default via {gateway} dev v0" in seen["routes"]
    assert f"{address}/{prefix}" in seen["own"]
    assert seen["connection"] == address  # from there, and not from one that is being looked for


def test_gateway_beside_the_subnet_is_refused_and_nothing_set_up() -> None:
    seen = take_offer("10.9.9.7", 24, "10.128.0.1")
    assert seen["offer"].startswith("net.gateway: 10.128.0.1 is not a neighbour")
    assert (seen["routes"], seen["connection"]) == ("", "")
