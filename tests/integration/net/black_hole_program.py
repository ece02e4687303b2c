"""A guest behind a way that loses large packets and tells nobody: runs as root.

The guest's link takes 1500 bytes, and so does the service's; a bridge between them drops what is
over 1300, without the ICMP that would say so. It prints how much arrived, and the segment sizes
before and after.
"""

import json
import socket
import threading

from ccinit.boot.harden import SETTINGS
from ccinit.kernel.sysctl import write_sysctl
from tests.integration.net.namespaces import enter_namespace, ip

SERVICE = ("10.9.9.2", 8443)
EVIDENCE = bytes(20_000)
_SECONDS = 30.0  # of the 60 that a request to the KBS has


def make_way() -> socket.socket:
    """Enter a guest's namespace; return a service's socket in the one at the other end."""
    far = enter_namespace()
    service = socket.create_server(("", SERVICE[1]))
    enter_namespace()
    ip("link add v0 type veth peer name v1")
    ip("link set v0 gso_max_segs 1")  # else one packet here would be many of the bridge's
    ip("link add w0 mtu 1300 type veth peer name w1")
    ip(f"link set w1 netns {far}")
    ip("link add b0 type bridge")
    for port in ("v1", "w0"):
        ip(f"link set {port} master b0 up")
    for link, address, namespace in (("v0", "10.9.9.1", ""), ("w1", SERVICE[0], far)):
        ip(f"address add {address}/24 dev {link}", namespace)
        ip(f"link set {link} mtu 1500 up", namespace)
    ip("link set b0 up")
    return service


def segment_bytes(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def main() -> dict[str, int]:
    service = make_way()
    for setting in SETTINGS:
        if setting.name.startswith("net.ipv"):
            write_sysctl(setting.name, setting.value)
    taken = bytearray()

    def take() -> None:
        connection, _ = service.accept()
        with connection:
            while data := connection.recv(65536):
                taken.extend(data)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    with socket.create_connection(SERVICE, _SECONDS) as connection:
        before = segment_bytes(connection)
        connection.sendall(EVIDENCE)
        connection.shutdown(socket.SHUT_WR)
        thread.join(_SECONDS)
        return {"arrived": len(taken), "before": before, "after": segment_bytes(connection)}


if __name__ == "__main__":
    print(json.dumps(main()))
