"""Links, addresses and routes by rtnetlink. `boot.network` decides what to set.

The only module that imports pyroute2, which takes longer than any other import of the guest; only
the child that sets up the network loads it.
"""

from typing import Self

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from ccinit.errors import KernelError, VerificationError
from ccinit.kernel.libc import kernel_error

IFA_F_NODAD = 2
RTNH_F_ONLINK = 4
LOOPBACK_INDEX = 1


class NetworkLinks:
    """One rtnetlink socket. A context manager."""

    def __init__(self) -> None:
        try:
            self._socket = IPRoute()
        except OSError as error:
            raise kernel_error(error, "socket", "AF_NETLINK") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def find_link(self, mac: str) -> int:
        """Return the index of the one link with this address (`52:54:00:…`, lower case).

        Raises:
            VerificationError: `net.link`, none or several have it.
        """
        found = [
            int(link["index"])
            for link in self._socket.get_links()
            if str(link.get_attr("IFLA_ADDRESS")).lower() == mac
        ]
        if len(found) != 1:
            raise VerificationError("net.link", f"{len(found)} links have the address {mac}")
        return found[0]

    def set_mtu(self, index: int, mtu: int) -> None:
        """Set the MTU of a link, in bytes."""
        self._call("link", f"mtu of link {index}", "set", index=index, mtu=mtu)

    def set_link_up(self, index: int) -> None:
        """Bring a link up."""
        self._call("link", f"link {index} up", "set", index=index, state="up")

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give a link an address, which is usable at once: without duplicate address detection."""
        self._call(
            "addr",
            f"{address}/{prefix}",
            "add",
            index=index,
            address=address,
            prefixlen=prefix,
            flags=IFA_F_NODAD,
        )

    def add_default_route(self, index: int, gateway: str, *, on_link: bool) -> None:
        """Send what no other route covers to `gateway` on a link.

        Args:
            index: of the link.
            gateway: its address.
            on_link: whether to treat the gateway as on the link although no route says so.
        """
        self._call(
            "route",
            f"default via {gateway}",
            "add",
            dst="::/0" if ":" in gateway else "default",  # the word alone means IPv4
            gateway=gateway,
            oif=index,
            flags=RTNH_F_ONLINK if on_link else 0,
        )

    def _call(self, kind: str, target: str, *arguments: str, **fields: object) -> None:
        try:
            getattr(self._socket, kind)(*arguments, **fields)
        except NetlinkError as error:
            raise KernelError(int(error.code), f"netlink.{kind}", target) from error
