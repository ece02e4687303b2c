"""A terminal that another program sends, and whose failure it is if none arrives."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import ChildError, KernelError
from ccinit.kernel.terminal import listen_for_terminal, receive_terminal
from tests.fakes.machine.scarcity import count_descriptors, descriptors_left


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listen_for_terminal(str(tmp_path / "console")) as made:
        yield made


def send(listener: socket.socket, *descriptors: int) -> None:
    """As the runtime does: connect, send, and be gone."""
    with socket.socket(socket.AF_UNIX) as sender:
        sender.connect(listener.getsockname())
        socket.send_fds(sender, (b"/dev/pts/0",), descriptors)


def test_terminal_that_was_sent_is_returned(listener: socket.socket) -> None:
    with Path(os.devnull).open("rb") as sent:
        send(listener, sent.fileno())
        received = receive_terminal(listener)
        assert os.fstat(received).st_rdev == os.fstat(sent.fileno()).st_rdev
    os.close(received)


@pytest.mark.parametrize("is_connected", [False, True])
def test_sender_without_a_terminal_is_to_blame(
    listener: socket.socket, *, is_connected: bool
) -> None:
    if is_connected:
        send(listener)
    with pytest.raises(ChildError) as failed:
        receive_terminal(listener)
    assert failed.value.reason == "kernel.terminal"


@pytest.mark.parametrize("left", [0, 1])
def test_terminal_for_which_no_descriptor_is_left_is_the_kernels_refusal(
    listener: socket.socket, left: int
) -> None:
    """Whoever asked for it is not told that the runtime has sent none."""
    before = count_descriptors()
    with Path(os.devnull).open("rb") as sent:
        send(listener, sent.fileno())
    with descriptors_left(left), pytest.raises(KernelError) as failed:
        receive_terminal(listener)
    assert (failed.value.reason, failed.value.errno) == ("kernel.terminal", errno.EMFILE)
    assert count_descriptors() == before
