"""What the host offers a guest as its network, by how the guest is connected."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from host_runtime.machine.qemu import UserNetwork
from host_runtime.network.interface import PodInterface
from host_runtime.plane.rpc_client import NetworkOffer

_ADDRESS, _GATEWAY, _DNS = (ip_address(f"10.0.2.{last}") for last in (15, 2, 3))
_PREFIX: Final = 24
_MTU: Final = 1500


def offer_user_network(network: UserNetwork) -> NetworkOffer:
    """Return the addresses of QEMU's user network, which has a nameserver of its own."""
    return NetworkOffer(
        mac=_mac(network.mac),
        address=map_address(_ADDRESS),
        prefix=_PREFIX,
        gateway=map_address(_GATEWAY),
        mtu=_MTU,
        dns=(map_address(_DNS),),
    )


def offer_pod_interface(
    interface: PodInterface, nameservers: Sequence[IPv4Address | IPv6Address]
) -> NetworkOffer:
    """Return the addresses of an interface of a namespace, with the nameservers for its guest."""
    return NetworkOffer(
        mac=_mac(interface.mac),
        address=map_address(interface.address.ip),
        prefix=interface.address.network.prefixlen,
        gateway=map_address(interface.gateway),
        mtu=interface.mtu,
        dns=tuple(map(map_address, nameservers)),
    )


def offer_options(interface: PodInterface) -> str:
    """Return the options of `host-runtime offer-network` that offer an interface."""
    return (
        f"--mac {interface.mac} --address {interface.address}"
        f" --gateway {interface.gateway} --mtu {interface.mtu}"
    )


def map_address(address: IPv4Address | IPv6Address) -> bytes:
    """Return the 16 bytes of an address; IPv4 in mapped form (RFC 4291, section 2.5.5.2)."""
    if isinstance(address, IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
