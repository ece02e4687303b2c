"""Who made the socket at the other end of a local TCP connection: inet_diag over netlink.

The kernel notes for each socket the cgroup of the process that made it; a process can neither
choose nor change that by passing the socket on. Interface: include/uapi/linux/inet_diag.h and
sock_diag.h; Linux 5.11 or later tells the cgroup.

A process with CAP_NET_ADMIN can send to a netlink socket (netlink(7)), and a manifest may give that
to a container in the same network. So an answer counts only if it comes from the kernel.

For a 4-tuple, the kernel may also return a *listener* that such a connection would reach. So an
answer counts only if it has exactly the requested addresses and ports, and is established. An IPv6
socket that has connected to an IPv4 address, as those of Java do, is found by the same four
numbers, and has its addresses mapped (RFC 4291, section 2.5.5.2).
"""

import errno
import socket
import struct
from typing import Final

from ccinit.errors import KernelError
from ccinit.kernel.libc import kernel_error

Address = tuple[str, int]
"""IPv4 address in dotted form, port."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_ALL_STATES: Final = 0xFFF
_ESTABLISHED: Final = 1
_CGROUP_ID: Final = 21  # INET_DIAG_CGROUP_ID, a u64
_KERNEL: Final = (0, 0)  # port and groups of a sender
_ANY_COOKIE: Final = 0xFFFF_FFFF

_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_QUESTION = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_ANSWER = struct.Struct("=BBBB")  # family, state, timer, retransmissions
_NUMBERS = struct.Struct("!HH4s12x4s12x")  # ports and addresses: source, destination
_MAPPED = struct.Struct("!HH12s4s12s4s")
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
_INTERFACE_AND_COOKIE = struct.Struct("=III")
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ATTRIBUTES_AT: Final = 88  # after the header (16) and struct inet_diag_msg (72)
_ERROR_BYTES: Final = 20  # the header, and the code of struct nlmsgerr
_CGROUP_ID_BYTES: Final = 8
_REPLY_BYTES: Final = 8192


def find_cgroup_id(client: Address, server: Address) -> int | None:
    """Return the cgroup id of the socket that `client` has connected to `server`.

    The id is the inode number of the cgroup's directory. None if there is no such socket here, or
    it is no longer established.

    Raises:
        KernelError: `kernel.sock_diag`.
    """
    numbers = _NUMBERS.pack(
        client[1], server[1], socket.inet_aton(client[0]), socket.inet_aton(server[0])
    )
    question = (
        _QUESTION.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
        + numbers
        + _INTERFACE_AND_COOKIE.pack(0, _ANY_COOKIE, _ANY_COOKIE)
    )
    length = _MESSAGE.size + len(question)
    header = _MESSAGE.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        ) as netlink:
            reply = ask(netlink, header + question)
    except OSError as error:
        raise kernel_error(error, "sock_diag", f"port {client[1]}") from error
    return read_cgroup_id(reply, numbers)


def ask(netlink: socket.socket, question: bytes) -> bytes:
    """Return the kernel's answer; messages of other senders are ignored.

    Raises:
        OSError: the kernel took no question or gave no answer.
    """
    netlink.send(question)
    while True:
        # The kernel answers while it takes the question, so this never waits.
        reply, sender = netlink.recvfrom(_REPLY_BYTES, socket.MSG_DONTWAIT)
        if sender == _KERNEL:
            return reply


def read_cgroup_id(reply: bytes, numbers: bytes) -> int | None:
    """Read the kernel's answer to a question about `numbers`; pure.

    Raises:
        KernelError: `kernel.sock_diag`, the kernel refused the question, or with EBADMSG, this is
            no whole answer.
    """
    kind = _MESSAGE.unpack_from(reply)[1] if len(reply) >= _ERROR_BYTES else None
    if kind == _NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", reply, _MESSAGE.size)
        if -code == errno.ENOENT:
            return None
        raise kernel_error(OSError(-code, "netlink"), "sock_diag", "question")
    if kind != _SOCK_DIAG_BY_FAMILY or len(reply) < _ATTRIBUTES_AT:
        raise KernelError(errno.EBADMSG, "sock_diag", "answer")
    _, state, *_ = _ANSWER.unpack_from(reply, _MESSAGE.size)
    start = _MESSAGE.size + _ANSWER.size
    found = reply[start : start + len(numbers)]
    if state != _ESTABLISHED or found not in (numbers, _map_numbers(numbers)):
        return None
    return _find_attribute(reply[_ATTRIBUTES_AT:])


def _map_numbers(numbers: bytes) -> bytes:
    source_port, port, source, destination = _NUMBERS.unpack(numbers)
    return _MAPPED.pack(source_port, port, _MAPPED_PREFIX, source, _MAPPED_PREFIX, destination)


def _find_attribute(data: bytes) -> int | None:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if kind == _CGROUP_ID:
            value = data[_ATTRIBUTE.size : length]
            if len(value) != _CGROUP_ID_BYTES or length != _ATTRIBUTE.size + _CGROUP_ID_BYTES:
                raise KernelError(errno.EBADMSG, "sock_diag", "cgroup")
            return int.from_bytes(value, "little")
        data = data[max(_ATTRIBUTE.size, (length + 3) & ~3) :]
    return None


def is_established(connection: socket.socket) -> bool:
    """Return whether neither end of a TCP connection has closed its half."""
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == _ESTABLISHED
