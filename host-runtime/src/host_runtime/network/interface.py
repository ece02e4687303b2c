"""Which interface of the network namespace of this process can become a guest's.

An engine or a CNI plugin gives a pod a namespace with an interface that has the pod's address. A
guest that takes the address over is where the cluster looks for the pod: probes, Services and
published ports lead to it.

Specification: rtnetlink(7).
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
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

_LOOPBACK_FLAG: Final = 0x8  # IFF_LOOPBACK, <linux/if.h>
_GLOBAL_SCOPE: Final = 0  # RT_SCOPE_UNIVERSE, <linux/rtnetlink.h>
_MAIN_TABLE: Final = 254  # RT_TABLE_MAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface of a namespace; `addresses` are its global ones, in the kernel's order."""

    index: int
    name: str
    mac: str
    mtu: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultRoute:
    """Where packets go that nothing else covers; `gateway` is None for "on the link itself"."""

    index: int
    family: int
    gateway: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInterface:
    """An interface of this process's network namespace, to be a guest's.

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
        ConfigError: as `choose_interface`.
        KernelError: the kernel tells nothing of them.
    """
    return choose_interface(*_read())


def choose_interface(links: Sequence[Link], routes: Iterable[DefaultRoute]) -> PodInterface:
    """Return the link that a default route leads to, with its first address of that family.

    IPv4 comes first: a guest is offered one address. Pure.

    Raises:
        ConfigError: `network.interface`, none has an address; `network.gateway`, there is no
            default route by a gateway.
    """
    if not any(link.addresses for link in links):
        raise ConfigError("network.interface", "no interface here has an address to take over")
    by_index = {link.index: link for link in links}
    in_order = sorted(routes, key=lambda route: route.family != socket.AF_INET)
    for route in in_order:
        link = by_index.get(route.index)
        if link is None or route.gateway is None:
            continue
        for address in link.addresses:
            if address.version == route.gateway.version:
                return PodInterface(
                    index=link.index,
                    name=link.name,
                    mac=link.mac,
                    mtu=link.mtu,
                    address=address,
                    gateway=route.gateway,
                )
    names = ", ".join(link.name for link in links if link.addresses)
    raise ConfigError("network.gateway", f"{names}: no default route leads to a gateway there")


def _read() -> tuple[Sequence[Link], Sequence[DefaultRoute]]:
    with open_netlink() as netlink:
        addresses: dict[int, list[IPv4Interface | IPv6Interface]] = {}
        for message in netlink.get_addr():
            if message["scope"] == _GLOBAL_SCOPE:
                attributes = dict(message["attrs"])
                # Of a point-to-point link IFA_ADDRESS is the other end.
                text = attributes.get("IFA_LOCAL") or attributes["IFA_ADDRESS"]
                address = ip_interface(f"{text}/{message['prefixlen']}")
                addresses.setdefault(message["index"], []).append(address)
        links = [
            Link(
                index=message["index"],
                name=message.get_attr("IFLA_IFNAME"),
                mac=str(message.get_attr("IFLA_ADDRESS")).lower(),
                mtu=message.get_attr("IFLA_MTU"),
                addresses=tuple(addresses.get(message["index"], ())),
            )
            for message in netlink.get_links()
            if not message["flags"] & _LOOPBACK_FLAG
        ]
        routes = [
            _parse_route(message["family"], dict(message["attrs"]))
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in netlink.get_default_routes(family=family, table=_MAIN_TABLE)
        ]
        return links, routes


def _parse_route(family: int, attributes: Mapping[str, Any]) -> DefaultRoute:
    # A gateway of the other family is RTA_VIA, and none that an offer could name.
    gateway = attributes.get("RTA_GATEWAY")
    return DefaultRoute(
        index=attributes.get("RTA_OIF", 0),
        family=family,
        gateway=None if gateway is None else ip_address(gateway),
    )
