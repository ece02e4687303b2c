"""Which interface of a namespace a guest takes over, from what rtnetlink tells."""

import socket
from ipaddress import ip_address, ip_interface

import pytest

from ccinit.errors import ConfigError
from host_runtime.network.interface import DefaultRoute, Link, PodInterface, choose_interface

MAC = "02:00:00:00:00:01"
V4, V6 = socket.AF_INET, socket.AF_INET6


def link(index: int, *addresses: str, mac: str | None = MAC, mtu: int = 1450) -> Link:
    return Link(
        index=index,
        name=f"eth{index}",
        mac=mac,
        mtu=mtu,
        addresses=tuple(ip_interface(address) for address in addresses),
    )


def route(index: int, gateway: str | None, family: int = V4, metric: int = 0) -> DefaultRoute:
    address = None if gateway is None else ip_address(gateway)
    return DefaultRoute(index=index, family=family, metric=metric, gateway=address)


def test_link_of_the_default_route_is_taken_with_its_first_address() -> None:
    links = (link(2, "192.0.2.9/24"), link(3, "10.1.0.5/16", "10.1.0.6/16"))
    assert choose_interface(links, [route(3, "10.1.0.1")]) == PodInterface(
        index=3,
        name="eth3",
        mac=MAC,
        mtu=1450,
        address=ip_interface("10.1.0.5/16"),
        gateway=ip_address("10.1.0.1"),
    )


def test_version_4_comes_first_whatever_the_order() -> None:
    links = (link(2, "fd00::5/64", "10.1.0.5/16"),)
    routes = [route(2, "fe80::1", V6), route(2, "10.1.0.1")]
    assert choose_interface(links, routes).gateway == ip_address("10.1.0.1")
    assert choose_interface(links, routes[:1]).address == ip_interface("fd00::5/64")


def test_lowest_metric_decides_among_default_routes() -> None:
    links = (link(2, "192.0.2.9/24"), link(3, "10.1.0.5/16", "fd00::5/64"))
    routes = [route(2, "192.0.2.1", metric=200), route(3, "10.1.0.1", metric=100)]
    assert choose_interface(links, routes).index == 3
    assert choose_interface(links, [*routes[:1], route(3, "fe80::1", V6)]).index == 2


@pytest.mark.parametrize("mtu", [1280, 65_521])
def test_mtu_is_one_that_a_guest_and_a_tap_take(mtu: int) -> None:
    links, routes = (link(2, "10.1.0.5/16", mtu=mtu),), [route(2, "10.1.0.1")]
    assert choose_interface(links, routes).mtu == mtu


def test_address_that_is_a_subnet_of_its_own_has_a_gateway_beside_it() -> None:
    found = choose_interface((link(2, "10.1.0.5/32"),), [route(2, "169.254.1.1")])
    assert (str(found.address), str(found.gateway)) == ("10.1.0.5/32", "169.254.1.1")


@pytest.mark.parametrize(
    ("links", "routes", "reason"),
    [
        pytest.param((), [], "network.interface", id="loopback-only"),
        pytest.param((link(2),), [route(2, "10.1.0.1")], "network.interface", id="no-address"),
        pytest.param((link(2, "10.1.0.5/16"),), [], "network.gateway", id="no-route"),
        pytest.param(
            (link(2, "10.1.0.5/16"),), [route(2, None)], "network.gateway", id="route-by-link"
        ),
        pytest.param(
            (link(2, "10.1.0.5/16"),), [route(7, "10.1.0.1")], "network.gateway", id="other-link"
        ),
        pytest.param(
            (link(2, "10.1.0.5/16"),),
            [route(2, "fe80::1", V6)],
            "network.gateway",
            id="other-version",
        ),
        pytest.param(
            (link(2, "10.1.0.5/16", mac=None),),
            [route(2, "10.1.0.1")],
            "network.interface",
            id="no-ethernet",
        ),
        *(
            pytest.param(
                (link(2, "10.1.0.5/16", mtu=mtu),),
                [route(2, "10.1.0.1")],
                "network.mtu",
                id=f"mtu-{mtu}",
            )
            for mtu in (1279, 65_522)
        ),
    ],
)
def test_nothing_to_take_over_is_refused(
    links: tuple[Link, ...], routes: list[DefaultRoute], reason: str
) -> None:
    assert choose_interface((link(2, "10.1.0.5/16"),), [route(2, "10.1.0.1")]).index == 2
    with pytest.raises(ConfigError) as caught:
        choose_interface(links, routes)
    assert caught.value.reason == reason
