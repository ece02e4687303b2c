"""Whose address a TCP peer has: this machine's, or somebody else's."""

import socket

import pytest

from ccinit.kernel.listener import is_own_address


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("::ffff:127.9.9.9", 1, 0, 0), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:192.0.2.1", 1, 0, 0), False),
        (("2001:db8::1", 1, 0, 0), False),
        ("a form that is none", True),  # in doubt
    ],
)
def test_own_address_is_one_that_can_be_bound(peer: object, *, expected: bool) -> None:
    assert is_own_address(peer) is expected


def test_own_address_is_one_also_while_no_socket_is_to_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(24, "EMFILE")

    monkeypatch.setattr(socket, "socket", refuse)
    assert is_own_address(("2001:db8::1", 1, 0, 0))
