"""Volumes of which a file is still open when they close, although nobody has it any more."""

import os
import signal
import socket
from pathlib import Path

from ccinit.kernel.mount import MountFlag, detach, mount
from tests.vm.guest.disks import blank, disk, dm_names, open_volume

SOCKETS = 1000


def send_to_itself(path: Path) -> None:
    """Leave descriptors of a file in sockets whose only descriptors are in there, too."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(SOCKETS):
        one, two = socket.socketpair()
        socket.send_fds(one, [b"x"], [one.fileno(), two.fileno(), fd])
        one.close()
        two.close()


def test_volume_closes_whatever_a_dead_program_had_sent_to_itself(tmp_path: Path) -> None:
    blank(disk("volume"))
    shown, bound = tmp_path / "volume", tmp_path / "container"
    for place in (shown, bound):
        place.mkdir()
    reader, writer = os.pipe()
    with open_volume(disk("volume"), shown, may_create=True):
        mount(str(shown), str(bound), "", MountFlag.BIND)
        program = os.fork()
        if program == 0:
            try:
                send_to_itself(bound / "file")
                os.write(writer, b".")
                signal.pause()
            finally:
                os._exit(1)
        assert os.read(reader, 1) == b"."
        os.kill(program, signal.SIGKILL)
        os.waitpid(program, 0)
        detach(str(bound))  # as when the container's namespace ends
    assert dm_names() == set()
    for end in (reader, writer):
        os.close(end)
    with open_volume(disk("volume"), shown):
        assert (shown / "file").exists()
