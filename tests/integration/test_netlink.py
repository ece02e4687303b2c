"""The `net` child on a real link, in a network namespace of its own. Needs root."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ccinit.agent.jobs.messages import NetworkReady
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.boot.network_offer import NetworkPlan
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop

ROOT = Path(__file__).parents[2]
MAC = "02:00:00:00:00:01"

pytestmark = pytest.mark.usefixtures("as_root")


def in_namespace(address: str, prefix: int, gateway: str, mac: str = MAC) -> dict[str, str]:
    """Apply a plan in a fresh network namespace with one veth link; return what came of it."""
    script = (sys.executable, "-m", "tests.integration.test_netlink")
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    done = subprocess.run(
        ("unshare", "--net", *script, address, str(prefix), gateway, mac),
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        timeout=60,
    )
    result: dict[str, str] = json.loads(done.stdout)
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


def apply(address: str, prefix: int, gateway: str, mac: str) -> str:
    plan = NetworkPlan(mac=mac, address=address, prefix=prefix, gateway=gateway, mtu=1400, dns=())
    children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": os.environ["PYTHONPATH"]})
    try:
        EventLoop().run(children.run(Role.NET, plan, NetworkReady, seconds=30))
    except CcinitError as error:
        return str(error)
    return ""


def ip(*arguments: str) -> str:
    done = subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    ip("link", "add", "v0", "address", MAC, "type", "veth", "peer", "name", "v1")
    ip("link", "set", "v1", "up")
    failure = apply(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
    own = ip("address", "show", "dev", "v0", "scope", "global")
    print(
        json.dumps(
            {
                "failure": failure,
                "addresses": ip("address"),
                "own": own,
                "routes": ip("route") + ip("-6", "route"),
            }
        )
    )
