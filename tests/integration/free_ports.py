"""Ports for servers that are told their number, which nobody else gets meanwhile.

They lie below those that Linux gives to whoever names none (`ip_local_port_range`, from 32768):
neither a connection nor a server on any port takes one between its choice and its use, whatever
runs beside.
"""

import random
import socket
from contextlib import ExitStack
from typing import Final

_LOWEST: Final = 10_000
_ABOVE: Final = 32_768
_CHANCE: Final = random.SystemRandom()


def free_port() -> int:
    """A port that was free a moment ago."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> tuple[int, ...]:
    """As many ports, all of them others, that were free a moment ago."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            probe, port = stack.enter_context(socket.socket()), _CHANCE.randrange(_LOWEST, _ABOVE)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody has it
            found.append(port)
    return tuple(found)
