"""The host's network offer, validated and turned into a plan.

The host controls where packets go anyway, so an offer need not be trusted; but it must not affect
anything else: addresses are plain unicast, the gateway is on the link, nothing touches loopback,
and no text is accepted. IPv4 addresses come in IPv4-mapped form (RFC 4291, section 2.5.5.2).

The gateway lies in the offered subnet, with two exceptions: an IPv6 gateway may be link-local, as
routers' addresses are (RFC 4861, section 4.2), and an address that is a subnet of its own (/32,
/128), as clouds and cluster networks assign them, may have any gateway, since it has no neighbours.

Addresses stay bytes in network order. PID 1 does not load `ipaddress`, which would occupy 0.2 MB
for the life of the guest, for the sake of one offer.
"""

import socket

from ccinit.boot.network_offer import NetworkOffer, NetworkPlan
from ccinit.errors import FormatError, VerificationError

MIN_MTU = 1280  # RFC 8200, section 5
MAX_MTU = 65_535
"""The longest IPv4 packet, and the kernel's own cap (ETH_MAX_MTU).

Clouds use up to 9001, switches 9216, networks within one machine 65 520; a link's driver refuses an
MTU that it cannot carry.
"""
_MAC_BYTES = 6
_MULTICAST_BIT = 1
_V4_BYTES, _V6_BYTES = 4, 16
_MAPPED = bytes(10) + b"\xff\xff"
_V4_LOOPBACK = 127
_V4_LAST_UNICAST = 223  # above it multicast (RFC 1112) and reserved
_V4_LINK_LOCAL = b"\xa9\xfe"  # 169.254/16, RFC 3927
_V6_LINK_LOCAL = b"\xfe\x80" + bytes(6)  # fe80::/64, RFC 4291, section 2.5.6
_LINK_LOCAL = {_V4_BYTES: _V4_LINK_LOCAL, _V6_BYTES: _V6_LINK_LOCAL}
_V4_LONGEST, _V6_LONGEST = 8 * _V4_BYTES, 8 * _V6_BYTES
_POINT_TO_POINT_BITS = 1  # /31 and /127: two hosts, no subnet address


def verify_offer(offer: NetworkOffer) -> NetworkPlan:
    """Validate an offer.

    Raises:
        FormatError: a field has the wrong length.
        VerificationError: `net.mac`, `net.address`, `net.prefix`, `net.gateway`, `net.mtu` or
            `net.dns`.
    """
    address = _unicast(offer.address, "net.address")
    gateway = _unicast(offer.gateway, "net.gateway", link_local=(_V4_BYTES, _V6_BYTES))
    longest = _V4_LONGEST if len(address) == _V4_BYTES else _V6_LONGEST
    if not 8 <= offer.prefix <= longest:
        raise VerificationError("net.prefix", f"expected /8 to /{longest}, found /{offer.prefix}")
    is_off_subnet = _verify_gateway(address, gateway, offer.prefix)
    _verify_host(address, offer.prefix, "net.address")
    # The first address of an IPv6 subnet is the routers' anycast address (RFC 4291, section 2.6.1);
    # the last one is ordinary.
    if len(gateway) == _V4_BYTES and not is_off_subnet:
        _verify_host(gateway, offer.prefix, "net.gateway")
    if not MIN_MTU <= offer.mtu <= MAX_MTU:
        raise VerificationError("net.mtu", f"expected {MIN_MTU} to {MAX_MTU}, found {offer.mtu}")
    return NetworkPlan(
        mac=_mac(offer.mac),
        address=_text(address),
        prefix=offer.prefix,
        gateway=_text(gateway),
        gateway_on_link=is_off_subnet,
        mtu=offer.mtu,
        # Clouds have name servers at 169.254.… behind the gateway. A link-local IPv6 address cannot
        # be behind a gateway, and is incomplete without a link's name.
        dns=tuple(_text(_unicast(one, "net.dns", link_local=(_V4_BYTES,))) for one in offer.dns),
    )


def _verify_gateway(address: bytes, gateway: bytes, prefix: int) -> bool:
    """Check that the gateway is another machine on the link; return whether it is off-subnet."""
    host_bits = 8 * len(address) - prefix
    ours, theirs = int.from_bytes(address), int.from_bytes(gateway)
    has_subnet = host_bits > 0
    is_near = has_subnet and ours >> host_bits == theirs >> host_bits
    is_reached = is_near or not has_subnet or gateway.startswith(_V6_LINK_LOCAL)
    if len(gateway) != len(address) or ours == theirs or not is_reached:
        near = f"{_text(address)}/{prefix}"
        raise VerificationError("net.gateway", f"{_text(gateway)} is not a neighbour of {near}")
    return not is_near


def _verify_host(address: bytes, prefix: int, reason: str) -> None:
    """Check that an address is neither its subnet's own nor its broadcast address.

    Subnets of one or two addresses have neither (RFC 3021, RFC 6164).
    """
    host_bits = 8 * len(address) - prefix
    last = (1 << host_bits) - 1
    if host_bits > _POINT_TO_POINT_BITS and int.from_bytes(address) & last in {0, last}:
        raise VerificationError(reason, f"{_text(address)} is not a host of /{prefix}")


def _mac(raw: bytes) -> str:
    if len(raw) != _MAC_BYTES:
        raise FormatError("net.mac", f"expected {_MAC_BYTES} bytes, found {len(raw)}")
    if raw[0] & _MULTICAST_BIT or not any(raw):
        raise VerificationError("net.mac", "not a unicast address")
    return raw.hex(":")


def _unicast(raw: bytes, reason: str, *, link_local: tuple[int, ...] = ()) -> bytes:
    """Return the 4 or 16 bytes of an address that a host may have.

    Args:
        raw: 16 bytes.
        reason: of a refusal.
        link_local: lengths of addresses that may be link-local.
    """
    if len(raw) != _V6_BYTES:
        raise FormatError(reason, f"expected {_V6_BYTES} bytes, found {len(raw)}")
    address = raw.removeprefix(_MAPPED)
    size = len(address)
    if size in link_local and address.startswith(_LINK_LOCAL[size]):
        return address
    if not (_is_unicast_v4(address) if size == _V4_BYTES else _is_unicast_v6(address)):
        raise VerificationError(reason, f"{_text(address)} is not a usable unicast address")
    return address


def _is_unicast_v4(address: bytes) -> bool:
    """Not this host (0/8, 127/8; RFC 1122, section 3.2.1.3), link-local, multicast or reserved."""
    return (
        0 < address[0] <= _V4_LAST_UNICAST
        and address[0] != _V4_LOOPBACK
        and not address.startswith(_V4_LINK_LOCAL)
    )


def _is_unicast_v6(address: bytes) -> bool:
    """Global unicast (2000::/3; RFC 4291, section 2.4) or unique local (fc00::/7; RFC 4193)."""
    return address[0] >> 5 == 0b001 or address[0] >> 1 == 0b111_1110


def _text(address: bytes) -> str:
    family = socket.AF_INET if len(address) == _V4_BYTES else socket.AF_INET6
    return socket.inet_ntop(family, address)
