"""Which interface of the network namespace of this process can become a guest's.

An engine or a CNI plugin gives a pod a namespace with an interface that has the pod's address. A
guest that takes the address over is where the cluster looks for the pod: probes, Services and
published ports lead to it.

Specification: rtnetlink(7).
"""

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Any, Final

from ccinit.errors import ConfigError
from host_runtime.network.netlink import open_netlink

TAP_NAME: Final = "ccinit0"  # of a guest's tap; a namespace has one

_LOOPBACK_FLAG: Final = 0x8  # IFF_LOOPBACK, <linux/if.h>
_ETHERNET: Final = 1  # ARPHRD_ETHER, <linux/if_arp.h>
_GLOBAL_SCOPE: Final = 0  # RT_SCOPE_UNIVERSE, <linux/rtnetlink.h>
_MAIN_TABLE: Final = 254  # RT_TABLE_MAIN
_UNICAST: Final = 1  # RTN_UNICAST
_DUPLICATE, _DEPRECATED, _PERMANENT = 0x08, 0x20, 0x80  # IFA_F_…, <linux/if_addr.h>
_MTUS: Final = range(1280, 65_521 + 1)  # from what a guest takes to what a tap can have


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface of a namespace.

    Attributes:
        mac: None where it is no Ethernet.
        addresses: its global ones; of a version, the one that the pod is known by comes first.
    """

    index: int
    name: str
    mac: str | None
    mtu: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultRoute:
    """A route for packets that no other one covers; `gateway` is None for "on the link itself".

    Of two, the one with the lower `metric` has effect.
    """

    index: int
    family: int
    metric: int
    gateway: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInterface:
    """An interface of this process's network namespace that a guest is to take over.

    Attributes:
        index: of the link, as the kernel counts.
        mac: the link's address, in lower case; the guest's card gets the same one.
        mtu: in bytes.
        address: what the guest is offered, with the length of its subnet.
        gateway: of the namespace's default route.
    """

    index: int
    name: str
    mac: str
    mtu: int
    address: IPv4Interface | IPv6Interface
    gateway: IPv4Address | IPv6Address


def has_interface() -> bool:
    """Whether this process's network namespace has more than a loopback with an address."""
    return any(link.addresses for link in _read()[0])


def find_interface() -> PodInterface:
    """Return the interface of this process's network namespace that a guest can take over.

    Raises:
        ConfigError: as `choose_interface`; `network.netlink`, the kernel does not tell.
    """
    return choose_interface(*_read())


def choose_interface(links: Sequence[Link], routes: Iterable[DefaultRoute]) -> PodInterface:
    """Return the link that a default route leads to, with its first address of that family.

    IPv4 is preferred, since a guest is offered only one address. Pure.

    Raises:
        ConfigError: `network.interface`, no link has an address, or this one is no Ethernet;
            `network.gateway`, no default route leads to a gateway; `network.mtu`;
            `network.taken`, another guest has it.
    """
    if any(link.name == TAP_NAME for link in links):
        raise ConfigError("network.taken", f"a guest has it already: there is {TAP_NAME}")
    if not any(link.addresses for link in links):
        raise ConfigError("network.interface", "no interface here has an address to take over")
    by_index = {link.index: link for link in links}
    in_order = sorted(routes, key=lambda route: (route.family != socket.AF_INET, route.metric))
    for route in in_order:
        link = by_index.get(route.index)
        if link is None or route.gateway is None:
            continue
        for address in link.addresses:
            if address.version == route.gateway.version:
                return _take(link, address, route.gateway)
    names = ", ".join(link.name for link in links if link.addresses)
    raise ConfigError("network.gateway", f"{names}: no default route leads to a gateway there")


def _take(
    link: Link, address: IPv4Interface | IPv6Interface, gateway: IPv4Address | IPv6Address
) -> PodInterface:
    if link.mac is None:
        raise ConfigError("network.interface", f"{link.name} is no Ethernet, as a guest's card is")
    if link.mtu not in _MTUS:
        detail = f"{link.name} has {link.mtu}; a guest takes {_MTUS[0]} to {_MTUS[-1]}"
        raise ConfigError("network.mtu", detail)
    return PodInterface(
        index=link.index,
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        address=address,
        gateway=gateway,
    )


def _read() -> tuple[Sequence[Link], Sequence[DefaultRoute]]:
    with open_netlink() as netlink:
        addresses = _read_addresses(netlink)
        links = [
            Link(
                index=message["index"],
                name=message.get_attr("IFLA_IFNAME"),
                mac=message.get_attr("IFLA_ADDRESS") if message["ifi_type"] == _ETHERNET else None,
                mtu=message.get_attr("IFLA_MTU"),
                addresses=tuple(addresses.get(message["index"], ())),
            )
            for message in netlink.get_links()
            if not message["flags"] & _LOOPBACK_FLAG
        ]
        routes = [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in netlink.get_routes(family=family)
            for route in _parse_route(family, message)
        ]
        return links, routes


def _read_addresses(netlink: Any) -> dict[int, list[IPv4Interface | IPv6Interface]]:
    """Return the addresses of each link, by its index.

    The kernel lists those of IPv4 in the order in which they were added, and the newest of IPv6
    first. Addresses that somebody has set precede those from a router's advertisement, which an
    engine does not know.
    """
    older_first = reversed(tuple(netlink.get_addr(family=socket.AF_INET6)))
    chosen_first = sorted(older_first, key=_is_transient)
    found: dict[int, list[IPv4Interface | IPv6Interface]] = {}
    for message in (*netlink.get_addr(family=socket.AF_INET), *chosen_first):
        if message["scope"] == _GLOBAL_SCOPE and not _flags(message) & _DUPLICATE:
            # On a point-to-point link, IFA_ADDRESS is the other end's.
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            address = ip_interface(f"{text}/{message['prefixlen']}")
            found.setdefault(message["index"], []).append(address)
    return found


def _is_transient(message: Any) -> bool:
    return _flags(message) & (_PERMANENT | _DEPRECATED) != _PERMANENT


def _flags(message: Any) -> int:
    flags: int = message.get_attr("IFA_FLAGS")
    return flags


def _parse_route(family: int, message: Any) -> Iterator[DefaultRoute]:
    """Yield the route if it is a default route of the main table, where packets go by default.

    A route of several next hops gets neither a link nor a gateway here. A gateway of the other
    family would be in RTA_VIA, and an offer could not name it.
    """
    if message["dst_len"] or message["type"] != _UNICAST or message["table"] != _MAIN_TABLE:
        return
    gateway = message.get_attr("RTA_GATEWAY")
    yield DefaultRoute(
        index=message.get_attr("RTA_OIF") or 0,
        family=family,
        metric=message.get_attr("RTA_PRIORITY") or 0,
        gateway=None if gateway is None else ip_address(gateway),
    )
