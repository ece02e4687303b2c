"""A netlink socket in the network namespace of this process, with our own errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ccinit.errors import ConfigError


@contextmanager
def open_netlink() -> Iterator[Any]:
    """Yield a `pyroute2.IPRoute`.

    Raises:
        ConfigError: `network.netlink`: the kernel refuses a request of the block.
    """
    # Half a second of imports, which only a guest that takes an interface over has to wait for.
    from pyroute2 import IPRoute  # type: ignore[import-untyped] # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        with IPRoute(ext_ack=True) as netlink:  # the kernel's texts about errors
            yield netlink
    except NetlinkError as error:
        raise ConfigError("network.netlink", str(error.args[1])) from error
