"""Two namespaces joined by a pair of links, as CNI plugins make them for a pod. Needs root.

What a program in the node's namespace listens on can be served from here: a socket stays in the
namespace in which it was made.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_runtime.relay.forward import forward
from tests.integration.net.namespaces import CLONE_NEWNET, ip

MAC, MTU = "02:00:00:00:0c:01", 1430
PREFIX = 24
_KNOCK = """
import socket, sys
with socket.socket() as knocking:
    knocking.settimeout(2)
    try:
        knocking.connect((sys.argv[1], 9))
    except ConnectionRefusedError:
        pass
"""


@dataclass(frozen=True, slots=True)
class Network:
    """Namespaces of a pod and of the node behind it, by path; the pod's link is `eth0`."""

    pod: str
    node: str
    address: str

    def links(self) -> dict[str, Any]:
        return {link["ifname"]: link for link in json.loads(ip("-j -s -d link", self.pod))}

    def filters(self, link: str) -> list[str]:
        """Where what arrives at a link of the pod's is sent."""
        return [action["to_dev"] for action in self._actions(link)]

    def redirected(self, link: str) -> int:
        """How many packets that arrived at a link were sent on, whoever read them by now."""
        packets: int = sum(action["stats"]["packets"] for action in self._actions(link))
        return packets

    def _actions(self, link: str) -> list[dict[str, Any]]:
        command = ("nsenter", f"--net={self.pod}", "tc", "-s", "-j", "filter", "show", "dev", link)
        told = subprocess.run(
            (*command, "ingress"), check=True, capture_output=True, text=True
        ).stdout
        actions = [
            one["options"].get("actions", []) for one in json.loads(told) if "options" in one
        ]
        return [action for of_one in actions for action in of_one]

    def ask(self, port: int) -> str:
        """Return what a web server at the pod's address answers to somebody on the node."""
        url = f"http://{self.address}:{port}/"
        program = (
            "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read())"
        )
        command = ("nsenter", f"--net={self.node}", sys.executable, "-c", program, url)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def is_answered(self) -> bool:
        """Whether the pod's own kernel answers for its address."""
        command = ("nsenter", f"--net={self.node}", sys.executable, "-c", _KNOCK, self.address)
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def pod_network(address: str, gateway: str) -> Iterator[Network]:
    """Give a pod's namespace with a link of that address, and the node's behind it."""
    with namespace() as pod, namespace() as node:
        yield link_up(pod, node, address, gateway)


def link_up(pod: int, node: int, address: str, gateway: str) -> Network:
    """Join the namespaces of two processes by a link that has that address in the pod's."""
    names = Network(pod=network_path(pod), node=network_path(node), address=address)
    ip(f"link add eth0 mtu {MTU} address {MAC} type veth peer name far netns {node}", names.pod)
    ip(f"addr add {gateway}/{PREFIX} dev far", names.node)
    ip("link set far up", names.node)
    ip(f"addr add {address}/{PREFIX} dev eth0", names.pod)
    ip("link set lo up", names.pod)
    ip("link set eth0 up", names.pod)
    ip(f"route add default via {gateway}", names.pod)
    return names


def network_path(pid: int) -> str:
    return f"/proc/{pid}/ns/net"


@contextmanager
def namespace() -> Iterator[int]:
    """Give the id of a process that holds an empty network namespace."""
    own = Path("/proc/self/ns/net").readlink()
    with subprocess.Popen(("unshare", "--net", "sleep", "3600")) as process:
        try:
            while Path(f"/proc/{process.pid}/ns/net").readlink() == own:
                time.sleep(0.01)
            yield process.pid
        finally:
            process.kill()


@contextmanager
def forwarded(network: Network, address: str, port: int) -> Iterator[None]:
    """Let a port of the node lead to the same one of this machine's loopback."""
    with _listen_within(network.node, address, port) as listener:
        thread = threading.Thread(target=_serve, args=(listener, port), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _listen_within(namespace: str, address: str, port: int) -> socket.socket:
    made: list[socket.socket] = []

    def listen() -> None:  # a thread's namespace is its own
        descriptor = os.open(namespace, os.O_RDONLY)
        assert ctypes.CDLL(None).setns(descriptor, CLONE_NEWNET) == 0
        os.close(descriptor)
        made.append(socket.create_server((address, port)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    return made[0]


def _serve(listener: socket.socket, port: int) -> None:
    with suppress(OSError):  # shut down
        while True:
            inside = listener.accept()[0]
            threading.Thread(target=_carry, args=(inside, port), daemon=True).start()


def _carry(inside: socket.socket, port: int) -> None:
    with inside, socket.create_connection(("127.0.0.1", port)) as outside:
        forward(inside, outside)
