"""Which interface of a namespace a guest takes over, from what rtnetlink tells."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from ccinit.errors import ConfigError
from host_runtime.network import interface
from host_runtime.network.interface import (
    TAP_NAME,
    DefaultRoute,
    Link,
    PodInterface,
    choose_interface,
    find_interface,
    has_interface,
)

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
        pytest.param(
            (link(2, "10.1.0.5/16"), replace(link(3), name=TAP_NAME)),
            [route(2, "10.1.0.1")],
            "network.taken",
            id="another-guests",
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


def test_refusal_names_the_links_that_have_an_address() -> None:
    with pytest.raises(ConfigError, match="eth2, eth3: no default route"):
        choose_interface((link(1), link(2, "10.1.0.5/16"), link(3, "10.2.0.5/16")), [])


class Message(dict[str, Any]):
    """One of rtnetlink's, as pyroute2 gives it."""

    def get_attr(self, name: str) -> Any:
        return dict(self["attrs"]).get(name)


class Netlink:
    """A namespace of a loopback, and of `eth0` with a peer's, a link-local and a global address."""

    scopes = (253, 0)  # RT_SCOPE_LINK, RT_SCOPE_UNIVERSE

    def get_addr(self, *, family: int) -> Iterator[Message]:
        if family == V4:
            flags = ("IFA_FLAGS", 0x80)  # IFA_F_PERMANENT
            loopback = [flags, ("IFA_ADDRESS", "10.9.9.9")]
            yield Message(index=1, scope=0, prefixlen=32, attrs=loopback)
            of_link = [flags, ("IFA_ADDRESS", "169.254.0.9")]
            yield Message(index=2, scope=self.scopes[0], prefixlen=16, attrs=of_link)
            refused = [("IFA_FLAGS", 0x88), ("IFA_ADDRESS", "10.1.0.7")]  # IFA_F_DADFAILED
            yield Message(index=2, scope=self.scopes[1], prefixlen=16, attrs=refused)
            of_peer = [flags, ("IFA_ADDRESS", "10.1.0.1"), ("IFA_LOCAL", "10.1.0.5")]
            yield Message(index=2, scope=self.scopes[1], prefixlen=32, attrs=of_peer)

    def get_links(self) -> Iterator[Message]:
        for index, name, flags, kind in ((1, "lo", 0x49, 772), (2, "eth0", 0x1043, 1)):
            attrs = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", MAC), ("IFLA_MTU", 1500)]
            yield Message(index=index, flags=flags, ifi_type=kind, attrs=attrs)

    def get_routes(self, *, family: int) -> Iterator[Message]:
        if family == V4:
            unicast = {"dst_len": 0, "type": 1, "table": 254}
            yield Message(**unicast, attrs=[("RTA_OIF", 2)])
            for gateway, metric in (("10.1.0.9", 200), ("10.1.0.1", 100)):
                by_gateway = [("RTA_GATEWAY", gateway), ("RTA_PRIORITY", metric)]
                yield Message(**unicast, attrs=[("RTA_OIF", 2), *by_gateway])
            # These lead elsewhere: a part of the addresses, nowhere, by another table.
            for apart in ({"dst_len": 8}, {"type": 7}, {"table": 100}):
                of_eth0 = [("RTA_OIF", 2), ("RTA_GATEWAY", "10.1.0.8")]
                yield Message(**unicast | apart, attrs=of_eth0)


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> Netlink:
    made = Netlink()

    @contextmanager
    def open_netlink() -> Iterator[Netlink]:
        yield made

    monkeypatch.setattr(interface, "open_netlink", open_netlink)
    return made


@pytest.mark.usefixtures("namespace")
def test_own_end_of_a_point_to_point_link_is_taken_not_the_peers() -> None:
    assert find_interface() == PodInterface(
        index=2,
        name="eth0",
        mac=MAC,
        mtu=1500,
        address=ip_interface("10.1.0.5/32"),
        gateway=ip_address("10.1.0.1"),
    )


def test_address_of_a_loopback_or_of_a_link_alone_makes_no_interface(namespace: Netlink) -> None:
    assert has_interface()
    namespace.scopes = (253, 253)
    assert not has_interface()
