"""The kernel's answers about sockets, read from bytes; asked for real in tests/integration."""

import errno
import struct

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.sock_diag import read_cgroup_id

NUMBERS = struct.pack("!HH4s12x4s12x", 40000, 8006, b"\x7f\0\0\1", b"\x7f\0\0\1")
MAPPED = b"\0" * 10 + b"\xff\xff\x7f\0\0\1"
MAPPED_NUMBERS = NUMBERS[:4] + MAPPED + MAPPED
ESTABLISHED, TIME_WAIT, LISTEN = 1, 6, 10


def answer(state: int = ESTABLISHED, numbers: bytes = NUMBERS, attributes: bytes = b"") -> bytes:
    body = struct.pack("=BBBB", 2, state, 0, 0) + numbers + bytes(32) + attributes
    return struct.pack("=IHHII", 16 + len(body), 20, 0, 1, 0) + body


OTHER = struct.pack("=HHBxxx", 5, 8, 1)
CGROUP = struct.pack("=HHQ", 12, 21, 4711)


def test_cgroup_is_found_among_other_attributes() -> None:
    assert read_cgroup_id(answer(attributes=OTHER + CGROUP), NUMBERS) == 4711


def test_ipv6_socket_with_the_same_addresses_mapped_is_the_client() -> None:
    assert read_cgroup_id(answer(numbers=MAPPED_NUMBERS, attributes=CGROUP), NUMBERS) == 4711


@pytest.mark.parametrize(
    "reply",
    [
        answer(state=LISTEN, attributes=CGROUP),
        answer(state=TIME_WAIT, attributes=CGROUP),
        answer(numbers=NUMBERS[:2] + bytes(2) + NUMBERS[4:], attributes=CGROUP),
        answer(state=LISTEN, numbers=MAPPED_NUMBERS, attributes=CGROUP),
        answer(numbers=NUMBERS[:4] + MAPPED + bytes(16), attributes=CGROUP),
        answer(numbers=NUMBERS[:4] + MAPPED + MAPPED[:15] + b"\2", attributes=CGROUP),
        answer(attributes=OTHER),
        answer(attributes=bytes(4)),
        struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOENT),
    ],
)
def test_answer_about_anything_else_names_nobody(reply: bytes) -> None:
    assert read_cgroup_id(reply, NUMBERS) is None


def test_question_that_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(KernelError) as caught:
        read_cgroup_id(struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.EPERM), NUMBERS)
    assert (caught.value.reason, caught.value.errno) == ("kernel.sock_diag", errno.EPERM)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        answer(attributes=CGROUP)[:19],
        answer(attributes=CGROUP)[:87],
        answer(attributes=CGROUP)[:-1],
        answer(attributes=struct.pack("=HHI", 8, 21, 4711)),
        answer(attributes=struct.pack("=HHQI", 16, 21, 4711, 0)),
        answer(attributes=struct.pack("=HH", 65535, 21)),
        answer(attributes=struct.pack("=HHQ", 65535, 21, 4711)),
        answer(attributes=CGROUP).replace(struct.pack("=H", 20), struct.pack("=H", 3), 1),
        struct.pack("=IHHIIi", 20, 3, 0, 1, 0, 0),
        struct.pack("=IHHI", 36, 2, 0, 1),
    ],
)
def test_answer_that_is_not_whole_is_an_error_and_no_other_cgroup(reply: bytes) -> None:
    with pytest.raises(KernelError) as caught:
        read_cgroup_id(reply, NUMBERS)
    assert (caught.value.reason, caught.value.errno) == ("kernel.sock_diag", errno.EBADMSG)
