"""What the host offers as the pod's network, and the plan of it that the child `net` puts in force.

Kept apart from the validation, because the host plane accepts offers long before one is validated.
"""

from ccinit.values import frozen


@frozen
class NetworkOffer:
    """What the host sent; only the fields' lengths are checked so far."""

    mac: bytes
    address: bytes
    prefix: int
    gateway: bytes
    mtu: int
    dns: tuple[bytes, ...]


@frozen
class NetworkPlan:
    """A validated offer in the text forms that netlink and resolv.conf take.

    Attributes:
        gateway_on_link: the gateway is on the link although it is in no subnet of the link.
    """

    mac: str
    address: str
    prefix: int
    gateway: str
    gateway_on_link: bool
    mtu: int
    dns: tuple[str, ...]

    def resolver_file(self) -> str:
        """The text of /etc/resolv.conf."""
        return "".join(f"nameserver {server}\n" for server in self.dns)


@frozen
class NetworkReady:
    """The child's reply: the link is up, with its address and route."""
