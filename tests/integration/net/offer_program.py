"""A guest that takes an offer and connects at once: runs as root.

The gateway is a namespace besides, and what is behind it an address of its loopback. It prints what
became of the offer, of the first connection, and what the kernel set up.
"""

import ipaddress
import json
import os
import socket
import sys
from contextlib import suppress

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.boot.harden import SETTINGS
from ccinit.boot.network import verify_offer
from ccinit.boot.network_offer import NetworkOffer, NetworkPlan, NetworkReady
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.sysctl import write_sysctl
from tests.integration.net.namespaces import enter_namespace, ip

MAC = bytes.fromhex("020000000001")
BEHIND = {4: "198.51.100.9", 6: "2001:db8:99::9"}
PORT = 8443
_CONNECT_SECONDS = 10.0


def as_offered(address: str) -> bytes:
    one = ipaddress.ip_address(address)
    return one.packed if one.version == 6 else bytes(10) + b"\xff\xff" + one.packed


def make_gateway(guest: str, gateway: str, behind: str) -> None:
    """Enter the namespace of a guest whose gateway is another, where a service listens."""
    far = enter_namespace()
    ip("link set lo up")
    ip(f"address add {behind} dev lo {without_detection(behind)}")
    family = socket.AF_INET6 if ":" in behind else socket.AF_INET
    socket.create_server((behind, PORT), family=family).detach()  # it lives as long as we do
    enter_namespace()
    ip(f"link add v0 address {MAC.hex(':')} type veth peer name v1")
    ip(f"link set v1 netns {far}")
    ip("link set v1 up", far)
    ip(f"address add {gateway} dev v1 {without_detection(gateway)}", far)
    ip(f"route add {guest} dev v1", far)


def without_detection(address: str) -> str:
    return "nodad" if ":" in address else ""


def apply(plan: NetworkPlan) -> None:
    children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": os.environ["PYTHONPATH"]})
    EventLoop().run(children.run(Role.NET, plan, NetworkReady, seconds=30))


def main(guest: str, prefix: str, gateway: str) -> dict[str, str]:
    behind = BEHIND[ipaddress.ip_address(guest).version]
    make_gateway(guest, gateway, behind)
    for setting in SETTINGS:
        if setting.name.startswith("net.ipv"):
            write_sysctl(setting.name, setting.value)
    offer = NetworkOffer(
        mac=MAC,
        address=as_offered(guest),
        prefix=int(prefix),
        gateway=as_offered(gateway),
        mtu=1280,
        dns=(),
    )
    seen = {"offer": "", "connection": ""}
    try:
        apply(verify_offer(offer))
    except CcinitError as error:
        seen["offer"] = str(error)
    with suppress(OSError), socket.create_connection((behind, PORT), _CONNECT_SECONDS) as made:
        seen["connection"] = made.getsockname()[0]
    return seen | {"routes": ip("route") + ip("-6 route"), "own": ip("address show v0")}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
