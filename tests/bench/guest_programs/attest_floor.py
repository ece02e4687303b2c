"""What no ATTEST can go without: its modules in an interpreter, and three round trips in TLS.

Arguments: the KBS's URL and the file with its authority. Prints the milliseconds that a fresh
interpreter took to import the modules of both children, and the round trips after it: one
connection, one handshake, three small requests.
"""

import socket
import subprocess
import sys
import time

from ccinit.init.phases import INTERPRETER
from ccinit.net.tls import pinned_context

_IMPORTS = (
    f"import sys; sys.path.insert(0, {INTERPRETER[-1]!r})\n"
    "import ccinit.agent.processes.child, ccinit.agent.jobs.kbs, ccinit.agent.jobs.evidence"
)
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n"


def start_interpreter() -> None:
    """Import the modules in the way that a child does, and end."""
    subprocess.run((*INTERPRETER[:-1], "-c", _IMPORTS), check=True)


def make_round_trips(host: str, port: int, ca_pem: str) -> None:
    """Send three requests on one connection, each after the reply to the one before."""
    context = pinned_context(ca_pem, check_time=False)
    with (
        socket.create_connection((host, port)) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        for _ in range(3):
            connection.sendall(_REQUEST % host.encode())
            reply = b""
            while b"\r\n\r\n" not in reply:
                data = connection.recv(65536)
                if not data:
                    sys.exit("the connection was closed")
                reply += data


def main() -> None:
    """Do both once."""
    url, ca_file = sys.argv[1:]
    host, _, port = url.removeprefix("https://").partition(":")
    with open(ca_file) as file:  # noqa: PTH123  # as guest code
        ca_pem = file.read()
    began = time.perf_counter()
    start_interpreter()
    make_round_trips(host, int(port), ca_pem)
    print((time.perf_counter() - began) * 1000)


main()
