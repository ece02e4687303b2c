"""Which nameservers of a pod's resolver file its guest can ask.

Specification: resolv.conf(5).
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

MAX_RESOLVER_BYTES: Final = 64 << 10
MAX_NAMESERVERS: Final = 3  # MAXNS of resolv.conf(5), and of `offer_network`


def parse_nameservers(text: str, version: int) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return the nameservers of a resolver file, in order, as far as they can be offered.

    A guest has an address of one version of IP, and reaches nobody by the other. Left out are also
    loopback addresses, which in the guest are its own, and those with a zone (`fe80::1%eth0`),
    which mean something only in the namespace. Other lines have no effect.
    """
    found: list[IPv4Address | IPv6Address] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = ip_address(words[1])
        except ValueError:
            continue
        if address.version == version and _is_offered(address):
            found.append(address)
    return tuple(found[:MAX_NAMESERVERS])


def _is_offered(address: IPv4Address | IPv6Address) -> bool:
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    # Clouds have nameservers at 169.254.…; in IPv6, a link-local address needs the link's name.
    return isinstance(address, IPv4Address) or not address.is_link_local
