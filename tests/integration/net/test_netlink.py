"""The `net` child on a real link, in a network namespace of its own. Needs root."""

import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.boot.harden import SETTINGS
from ccinit.boot.network_offer import NetworkPlan, NetworkReady
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.sysctl import write_sysctl
from tests.integration.net.namespaces import run_apart

MAC = "02:00:00:00:00:01"
HARDENED, AS_THEY_WERE = "hardened", "as they were"
ADVERTISED = "2001:db8:bad::"
SECONDS = 30

pytestmark = pytest.mark.usefixtures("as_root")


def in_namespace(
    address: str, prefix: int, gateway: str, mac: str = MAC, settings: str = ""
) -> dict[str, str]:
    """Apply a plan in a fresh network namespace with one veth link; return what came of it."""
    result: dict[str, str] = run_apart(
        "tests.integration.net.test_netlink", address, str(prefix), gateway, mac, settings
    )
    return result


@pytest.mark.parametrize(
    ("address", "prefix", "gateway"),
    [
        pytest.param("10.9.9.1", 24, "10.9.9.2", id="IPv4"),
        pytest.param("fd00:9::1", 64, "fd00:9::2", id="IPv6"),
    ],
)
def test_plan_is_in_force_on_the_link_that_it_names(
    address: str, prefix: int, gateway: str
) -> None:
    seen = in_namespace(address, prefix, gateway)
    assert seen["failure"] == ""
    assert f"{address}/{prefix}" in seen["addresses"]
    assert "tentative" not in seen["own"]
    assert f"default via {gateway} dev v0" in seen["routes"]
    assert "mtu 1400" in seen["own"]
    assert "LOOPBACK,UP" in seen["addresses"]


def test_plan_for_a_link_that_is_not_there_is_refused() -> None:
    seen = in_namespace("10.9.9.1", 24, "10.9.9.2", mac="02:00:00:00:00:99")
    assert seen["failure"].startswith("net.link: 0 links")
    assert "default" not in seen["routes"]


def test_route_over_a_stranger_is_refused_by_the_kernel() -> None:
    seen = in_namespace("10.9.9.1", 24, "10.77.0.1")
    assert seen["failure"].startswith("kernel.netlink.route: default via 10.77.0.1")


@pytest.mark.parametrize(("settings", "is_taken"), [(AS_THEY_WERE, True), (HARDENED, False)])
def test_neighbour_that_calls_itself_a_router_is_not_believed(
    settings: str, *, is_taken: bool
) -> None:
    seen = in_namespace("10.9.9.1", 24, "10.9.9.2", settings=settings)
    assert seen["failure"] == ""
    assert int(seen["advertisements"]) > 0
    assert (ADVERTISED in seen["own"]) is is_taken
    assert ("default via fe80::bad" in seen["routes"]) is is_taken


def advertise() -> int:
    """Say from the link's other end that there is a router; return how many advertisements came."""
    router, everybody = (ipaddress.IPv6Address(one).packed for one in ("fe80::bad", "ff02::1"))
    prefix = ipaddress.IPv6Address(ADVERTISED).packed
    option = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + prefix  # RFC 4861, 4.6.2
    message = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option
    pseudo = router + everybody + struct.pack(">II", len(message), socket.IPPROTO_ICMPV6)
    words = struct.unpack(f">{len(pseudo + message) // 2}H", pseudo + message)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack(">H", total ^ 0xFFFF) + message[4:]
    head = struct.pack(">IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, 255)
    ethernet = bytes.fromhex("333300000001 020000000bad 86dd")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind(("v1", 0))
        link.send(ethernet + head + router + everybody + message)
    end = time.monotonic() + SECONDS
    while not (arrived := count_advertisements()) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.5)  # for what comes of it
    return arrived


def count_advertisements() -> int:
    counters = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(counters["Icmp6InRouterAdvertisements"])


def apply(address: str, prefix: int, gateway: str, mac: str) -> str:
    plan = NetworkPlan(
        mac=mac,
        address=address,
        prefix=prefix,
        gateway=gateway,
        gateway_on_link=False,
        mtu=1400,
        dns=(),
    )
    children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": os.environ["PYTHONPATH"]})
    try:
        EventLoop().run(children.run(Role.NET, plan, NetworkReady, seconds=SECONDS))
    except CcinitError as error:
        return str(error)
    return ""


def ip(*arguments: str) -> str:
    done = subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    ip("link", "add", "v0", "address", MAC, "type", "veth", "peer", "name", "v1")
    ip("link", "set", "v1", "up")
    for setting in SETTINGS if sys.argv[5] == HARDENED else ():
        if setting.name.startswith("net.ipv"):
            write_sysctl(setting.name, setting.value)
    failure = apply(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
    advertisements = advertise() if sys.argv[5] else 0
    own = ip("address", "show", "dev", "v0", "scope", "global")
    print(
        json.dumps(
            {
                "failure": failure,
                "advertisements": str(advertisements),
                "addresses": ip("address"),
                "own": own,
                "routes": ip("route") + ip("-6", "route"),
            }
        )
    )
