"""Which interface and which address are found in namespaces as plugins and routers leave them.

Needs root.
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from ccinit.errors import ConfigError
from host_runtime.network.netlink import open_netlink
from host_runtime.programs.process import python_environment
from tests.integration.host.pod_network import Network, pod_network
from tests.integration.net.namespaces import ip

_FIND = """
from ccinit.errors import ConfigError
from host_runtime.network.interface import find_interface
try:
    found = find_interface()
    print(found.name, found.address, found.gateway)
except ConfigError as error:
    print(error)
"""
ETH0 = "eth0 10.88.0.5/24 10.88.0.1"


@pytest.fixture
def pod() -> Iterator[str]:
    with pod_network("10.88.0.5", "10.88.0.1") as network:
        assert find(network) == ETH0
        ip("link add net1 type veth peer name far1", network.pod)
        for link in ("far1", "net1"):
            ip(f"link set {link} up", network.pod)
        ip("addr add 10.99.0.5/24 dev net1", network.pod)
        yield network.pod


def find(place: Network | str) -> str:
    path = place if isinstance(place, str) else place.pod
    command = ("nsenter", f"--net={path}", sys.executable, "-c", _FIND)
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=python_environment()
    ).stdout.strip()


def test_route_with_the_lower_metric_decides(pod: str) -> None:
    ip("route del default", pod)
    ip("route add default via 10.88.0.1 metric 50", pod)
    ip("route add default via 10.99.0.1 metric 70", pod)
    assert find(pod) == ETH0
    ip("route add default via 10.99.0.1 metric 20", pod)
    assert find(pod) == "net1 10.99.0.5/24 10.99.0.1"


def test_route_that_packets_do_not_take_does_not_count(pod: str) -> None:
    ip("route del default", pod)
    ip("route add default via 10.99.0.1 table 100", pod)  # of whatever a rule sends there
    ip("route add blackhole default metric 30", pod)
    assert find(pod).startswith("network.gateway: ")
    ip("route add default via 10.88.0.1 metric 40", pod)
    assert find(pod) == ETH0
    ip("route add 0.0.0.0/1 via 10.99.0.1", pod)  # but half of everything
    assert find(pod) == ETH0


def test_route_of_several_ways_names_no_gateway(pod: str) -> None:
    ip("route del default", pod)
    ip("route add default nexthop via 10.88.0.1 nexthop via 10.99.0.1", pod)
    assert find(pod).startswith("network.gateway: eth0, net1: ")


def test_first_address_that_somebody_has_set_is_the_pods(pod: str) -> None:
    """The kernel tells the newest one of IPv6 first, and a router may have made it."""
    ip("route del default", pod)
    made = ("fd00::5/64", "fd00::6/64", "fd00::7/64 valid_lft 900 preferred_lft 900")
    for address in made:
        ip(f"addr add {address} dev eth0 nodad", pod)
    ip("-6 route add default via fe80::1 dev eth0", pod)
    assert find(pod) == "eth0 fd00::5/64 fe80::1"
    ip("addr del fd00::5/64 dev eth0", pod)
    assert find(pod) == "eth0 fd00::6/64 fe80::1"
    ip("addr del fd00::6/64 dev eth0", pod)
    assert find(pod) == "eth0 fd00::7/64 fe80::1"
    ip("addr add 10.88.0.9/24 dev eth0", pod)
    ip("route add default via 10.88.0.1", pod)
    assert find(pod) == ETH0


def test_interface_without_ethernet_is_refused(pod: str) -> None:
    ip("route del default", pod)
    ip("tuntap add tun0 mode tun", pod)
    ip("addr add 10.77.0.5 peer 10.77.0.1 dev tun0", pod)
    ip("link set tun0 up", pod)
    ip("route add default via 10.77.0.1 dev tun0", pod)
    assert find(pod).startswith("network.interface: tun0 ")


def test_mtu_that_no_guest_takes_is_refused(pod: str) -> None:
    for mtu in (1279, 65_535):
        ip(f"link set eth0 mtu {mtu}", pod)
        assert find(pod).startswith(f"network.mtu: eth0 has {mtu}; ")
    ip("link set eth0 mtu 65521", pod)
    assert find(pod) == ETH0


def test_refusal_has_the_kernels_words() -> None:
    """`ENOENT` would not say that a module is missing."""
    with pytest.raises(ConfigError) as caught, open_netlink() as netlink:
        netlink.tc("add", "ccinit-none", index=1, handle=0xFFFF_0000)
    assert str(caught.value) == "network.netlink: Specified qdisc kind is unknown"
