"""A vTPM whose guests end suddenly goes on quoting: nobody has told it to shut down.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.attest.tpm_quote import quote_all_pcrs
from ccinit.errors import PeerError
from ccinit.formats.tcg.tpm_commands import TpmCommands
from ccinit.kernel.tpm import TpmDevice
from host_runtime.machine import swtpm
from host_runtime.machine.swtpm import AK_HANDLE, VirtualTpm, manufacture_tpm
from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.programs.tools import Tools

TOOLS = Tools(tree=Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
SUDDEN_ENDS = 5  # a TPM with its parameters as they come allows three
SET_DATAFD, INIT = struct.pack(">I", 0x10), struct.pack(">II", 0x2, 0)  # swtpm's control channel
STARTUP = struct.pack(">HIIH", 0x8001, 12, 0x144, 0)
DONE = bytes(4)


@contextmanager
def machine_with(tpm: VirtualTpm) -> Iterator[TpmDevice]:
    """Be QEMU with a guest that has used its TPM, and that ends without a word to it."""
    with (
        open_socket_folder() as sockets,
        tpm.start(TOOLS, control_socket=sockets / "tpm", log=sockets / "log") as running,
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.connect(str(sockets / "tpm"))
            ours, its = socket.socketpair()
            with its:
                socket.send_fds(control, [SET_DATAFD], [its.fileno()])
            assert control.recv(len(DONE)) == DONE
            control.sendall(INIT)
            assert control.recv(len(DONE)) == DONE
            with TpmDevice(ours.detach()) as device:
                device.transmit(STARTUP)
                yield device
        assert running.wait(60) == 0


def quote(tpm: VirtualTpm) -> bytes:
    """Have a guest quote; return its registers as they were before it measured anything."""
    with machine_with(tpm) as device:
        quoted = quote_all_pcrs(TpmCommands(device), int(AK_HANDLE, 16), b"asked")
        return b"".join(quoted.pcrs)


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualTpm:
    """A vTPM as earlier versions made them, which has counted as many ends as it allows.

    That it refuses its key shows that guests end here as those that a TPM counts.
    """
    steps = tuple(step for step in swtpm._PROVISIONING if step[0] != "tpm2_dictionarylockout")
    with monkeypatch.context() as patch:
        patch.setattr(swtpm, "_PROVISIONING", steps)
        tpm = manufacture_tpm(TOOLS, tmp_path / "tpm")
    for _ in range(3):
        quote(tpm)
    with pytest.raises(PeerError) as refused:
        quote(tpm)
    assert refused.value.reason == "tpm.lockout"
    (tpm.folder / swtpm._UNCOUNTED_FILE).unlink()  # earlier versions did not leave it, either
    return tpm


def test_guests_that_end_suddenly_do_not_lock_the_key_of_their_vtpm(tmp_path: Path) -> None:
    tpm = manufacture_tpm(TOOLS, tmp_path / "tpm")
    for _ in range(SUDDEN_ENDS):
        quote(tpm)


def test_locked_vtpm_of_an_earlier_version_is_healed_and_measures_as_before(
    counting: VirtualTpm, tmp_path: Path
) -> None:
    key = counting.ak_public_der()
    fresh = manufacture_tpm(TOOLS, tmp_path / "fresh")
    expected = quote(fresh)
    assert len(expected) == 24 * 32
    for _ in range(SUDDEN_ENDS):
        assert quote(counting) == expected
        assert (counting.folder / swtpm._UNCOUNTED_FILE).exists()  # once is enough
    assert counting.ak_public_der() == key


def test_vtpm_that_cannot_be_healed_is_started_as_it_is(
    counting: VirtualTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By tools without `tpm2`, say."""
    monkeypatch.setattr(swtpm, "_HEALING", (("tpm2_none",),))
    said = list[str]()
    with (
        open_socket_folder() as sockets,
        counting.start(
            TOOLS, control_socket=sockets / "tpm", log=tmp_path / "log", say=said.append
        ) as running,
    ):
        running.require_running()
    (line,) = said
    assert line.startswith("the vTPM may refuse its key to guests after three")
    assert "tpm2_none" in line
    with pytest.raises(PeerError):
        quote(counting)
