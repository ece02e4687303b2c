"""The host's network offer, validated and turned into a plan.

The host decides where packets go anyway, so an offer needs no trust, but it must not reach anything
else: addresses are plain unicast, the gateway lies in the offered subnet, nothing touches loopback,
and no text is taken. IPv4 travels in IPv4-mapped form (RFC 4291, section 2.5.5.2).
"""

import ipaddress

from ccinit.boot.network_offer import NetworkOffer, NetworkPlan
from ccinit.errors import FormatError, VerificationError

MIN_MTU, MAX_MTU = 1280, 9000
_MAC_BYTES = 6
_MULTICAST_BIT = 1
_V4_LONGEST, _V6_LONGEST = 30, 126

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def verify_offer(offer: NetworkOffer) -> NetworkPlan:
    """Validate an offer.

    Raises:
        FormatError: a field has another length.
        VerificationError: `net.mac`, `net.address`, `net.prefix`, `net.gateway`, `net.mtu` or
            `net.dns`.
    """
    address = _unicast(offer.address, "net.address")
    gateway = _unicast(offer.gateway, "net.gateway")
    longest = _V4_LONGEST if address.version == 4 else _V6_LONGEST
    if not 8 <= offer.prefix <= longest:
        raise VerificationError("net.prefix", f"/{offer.prefix} is not within /8../{longest}")
    subnet = ipaddress.ip_network((address, offer.prefix), strict=False)
    if gateway.version != address.version or gateway not in subnet or gateway == address:
        raise VerificationError("net.gateway", f"{gateway} is no neighbour within {subnet}")
    if address in {subnet.network_address, subnet.broadcast_address}:
        raise VerificationError("net.address", f"{address} is not a host of {subnet}")
    if not MIN_MTU <= offer.mtu <= MAX_MTU:
        raise VerificationError("net.mtu", f"{offer.mtu} is not within {MIN_MTU}..{MAX_MTU}")
    return NetworkPlan(
        mac=_mac(offer.mac),
        address=str(address),
        prefix=offer.prefix,
        gateway=str(gateway),
        mtu=offer.mtu,
        dns=tuple(str(_unicast(server, "net.dns")) for server in offer.dns),
    )


def _mac(raw: bytes) -> str:
    if len(raw) != _MAC_BYTES:
        raise FormatError("net.mac", f"{len(raw)} bytes")
    if raw[0] & _MULTICAST_BIT or not any(raw):
        raise VerificationError("net.mac", "not a unicast address")
    return raw.hex(":")


def _unicast(raw: bytes, reason: str) -> Address:
    try:
        wide = ipaddress.IPv6Address(raw)
    except ipaddress.AddressValueError as error:
        raise FormatError(reason, f"{len(raw)} bytes") from error
    address: Address = wide.ipv4_mapped or wide
    if (
        address.is_loopback
        or address.is_multicast
        or address.is_unspecified
        or address.is_link_local
        or address.is_reserved
    ):
        raise VerificationError(reason, f"{address} is not a usable unicast address")
    return address
