"""Joins an interface of the network namespace with the tap device of a guest's card.

What arrives at one leaves by the other (tc-mirred(8)), before the host's own network stack sees it:
the interface keeps its address, as whoever made it expects to find it, and the guest has it. The
kernel forgets the tap when QEMU, which has made it, ends.

Specification: rtnetlink(7), tc-u32(8), tc-mirred(8).
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ccinit.errors import ConfigError
from host_runtime.network.interface import TAP_NAME, PodInterface
from host_runtime.network.netlink import open_netlink

_INGRESS: Final = 0xFFFF_0000  # the only handle that a qdisc `ingress` can have
_PRIORITY: Final = 0xCC1  # of our filters, which are recognised by it
_ALL_PROTOCOLS: Final = 0x0003  # ETH_P_ALL
_SETTINGS: Final = Path("/proc/sys/net/ipv6/conf")


@contextmanager
def joined(interface: PodInterface) -> Iterator[None]:
    """Give the interface to the guest whose tap is `TAP_NAME` until the block ends.

    Raises:
        ConfigError: `network.tap`, there is no tap of that name; `network.taken`, somebody else's
            filters handle what arrives at the interface; `network.netlink`.
    """
    with ExitStack() as undo:
        with open_netlink() as netlink:
            found = netlink.link_lookup(ifname=TAP_NAME)
            if not found:
                raise ConfigError("network.tap", f"QEMU has not made the interface {TAP_NAME}")
            tap = found[0]
            _silence(TAP_NAME)
            netlink.link("set", index=tap, mtu=interface.mtu, state="up")
            _give_ingress(netlink, interface)
            undo.callback(_give_back, interface, tap)
            netlink.tc("add", "ingress", index=tap, handle=_INGRESS)
            _redirect(netlink, interface.index, tap)
            _redirect(netlink, tap, interface.index)
        yield


def _give_back(interface: PodInterface, tap: int) -> None:
    """Let the namespace have its interface again, if it is still there."""
    # The engine may have removed it; and how the guest ended matters more than an interface.
    with suppress(ConfigError, OSError), open_netlink() as netlink:
        # Our tap may be gone already, and the next guest may have the interface.
        if netlink.link_lookup(ifname=TAP_NAME) in ([], [tap]):
            netlink.tc("del", "ingress", index=interface.index)


def give_back_abandoned() -> None:
    """Give this process's namespace back the interfaces that a killed runtime's guest had.

    Raises:
        ConfigError: `network.netlink`.
    """
    with open_netlink() as netlink:
        if netlink.link_lookup(ifname=TAP_NAME):  # the next guest has it
            return
        for link in netlink.get_links():
            if _are_ours(tuple(netlink.get_filters(index=link["index"], parent=_INGRESS))):
                netlink.tc("del", "ingress", index=link["index"])


def _are_ours(filters: Sequence[Any]) -> bool:
    return bool(filters) and all(one["info"] >> 16 == _PRIORITY for one in filters)


def _silence(name: str) -> None:
    """Keep the host's own IPv6 off the tap, where it would ask the guest for routers."""
    setting = _SETTINGS / name / "disable_ipv6"
    with suppress(FileNotFoundError):  # a kernel without IPv6
        setting.write_text("1")


def _give_ingress(netlink: Any, interface: PodInterface) -> None:
    """Make the qdisc for the interface's filter, replacing one that a killed runtime has left."""
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        netlink.tc("add", "ingress", index=interface.index, handle=_INGRESS)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        filters = netlink.get_filters(index=interface.index, parent=_INGRESS)
        if not _are_ours(filters):
            detail = f"{interface.name} has a qdisc `ingress` of somebody else's"
            raise ConfigError("network.taken", detail) from error
        netlink.tc("del", "ingress", index=interface.index)
        netlink.tc("add", "ingress", index=interface.index, handle=_INGRESS)


def _redirect(netlink: Any, source: int, target: int) -> None:
    """Send each packet that arrives at `source` out of `target`."""
    netlink.tc(
        "add-filter",
        "u32",
        index=source,
        parent=_INGRESS,
        prio=_PRIORITY,
        protocol=_ALL_PROTOCOLS,
        target=0x10000,
        keys=["0x0/0x0+0"],
        action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target},
    )
