"""A TPM that the guest's code can talk to: PCRs, one key, and faults on demand.

Commands are read and replies laid out here a second time, from the TPM 2.0 Library (part 3), and
not with the project's encoders.
"""

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ccinit.kernel.tpm import TpmDevice
from tests.fakes.platforms.tpm_quote import FakeTpm, extend

AK_HANDLE = 0x81010002
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
AK_ATTRIBUTES = 0x00050072
RC_HANDLE_1 = 0x18B
RC_COMMAND_CODE = 0x143


@dataclass(kw_only=True)
class SimulatedTpm:
    """Answers commands from the registers and key of a `FakeTpm`.

    Attributes:
        failures: response codes that the next commands get instead of an answer.
        before_quote: called before each quote, to change registers in between.
        attributes: of the key.
        commands: codes of all commands so far.
    """

    tpm: FakeTpm
    failures: list[int] = field(default_factory=list)
    before_quote: Callable[[], None] = lambda: None
    attributes: int = AK_ATTRIBUTES
    commands: list[int] = field(default_factory=list)

    def respond(self, command: bytes) -> bytes:
        tag, size, code = struct.unpack_from(">HII", command)
        assert size == len(command)
        self.commands.append(code)
        if self.failures:
            return _reply(0x8001, self.failures.pop(0))
        match tag, code:
            case 0x8001, 0x17E:
                return self._pcr_read(command)
            case 0x8002, 0x182:
                pcr = int.from_bytes(command[10:14], "big")
                self.tpm.pcrs[pcr] = extend(self.tpm.pcrs[pcr], command[-32:])
                return _session_reply(b"")
            case 0x8002, 0x158:
                return self._quote(command)
            case 0x8001, 0x173:
                return self._read_public(command)
            case _:
                return _reply(0x8001, RC_COMMAND_CODE)

    def _pcr_read(self, command: bytes) -> bytes:
        mask = int.from_bytes(command[17:20], "little")
        # at most eight at a time: TPML_DIGEST is full
        chosen = [pcr for pcr in range(24) if mask >> pcr & 1][:8]
        bitmap = sum(1 << pcr for pcr in chosen).to_bytes(3, "little")
        values = b"".join(b"\x00\x20" + self.tpm.pcrs[pcr] for pcr in chosen)
        body = struct.pack(">IIHB", 7, 1, 0x000B, 3) + bitmap
        return _reply(0x8001, 0, body + struct.pack(">I", len(chosen)) + values)

    def _quote(self, command: bytes) -> bytes:
        if int.from_bytes(command[10:14], "big") != AK_HANDLE:
            return _reply(0x8001, RC_HANDLE_1)
        self.before_quote()
        length = int.from_bytes(command[27:29], "big")
        evidence = self.tpm.quote(command[29 : 29 + length])
        sized = struct.pack(">H", len(evidence.message)) + evidence.message
        return _session_reply(sized + evidence.signature)

    def _read_public(self, command: bytes) -> bytes:
        if int.from_bytes(command[10:14], "big") != AK_HANDLE:
            return _reply(0x8001, RC_HANDLE_1)
        numbers = self.tpm.key.public_key().public_numbers()
        modulus = numbers.n.to_bytes(self.tpm.key.key_size // 8, "big")
        area = struct.pack(">HHIH", 0x0001, 0x000B, self.attributes, 0)
        area += struct.pack(">HHHHI", 0x0010, 0x0014, 0x000B, self.tpm.key.key_size, 0)
        area += struct.pack(">H", len(modulus)) + modulus
        name = b"\x00\x0b" + hashlib.sha256(area).digest()
        parts = (area, name, name)
        return _reply(0x8001, 0, b"".join(struct.pack(">H", len(part)) + part for part in parts))

    def serve(self, connection: socket.socket) -> None:
        """Answer what comes on a connection until it ends."""
        with suppress(OSError), connection:
            while command := connection.recv(4096):
                connection.sendall(self.respond(command))


@contextmanager
def serving(tpm: SimulatedTpm, listener: socket.socket) -> Iterator[None]:
    """Answer a TPM's commands on a socket that listens, one connection after another."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                tpm.serve(listener.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


class SimulatedDevice(TpmDevice):
    """The guest's device, with a `SimulatedTpm` instead of a file."""

    def __init__(self, tpm: SimulatedTpm) -> None:
        super().__init__(-1)
        self.tpm = tpm

    def _exchange(self, command: bytes) -> bytes:
        return self.tpm.respond(command)


def scripted_device(*replies: bytes) -> tuple[TpmDevice, socket.socket]:
    """Return a device whose file already holds its replies, one read each, and the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for reply in replies:
        theirs.send(reply)
    fd = os.dup(ours.fileno())
    ours.close()
    return TpmDevice(fd), theirs


def _reply(tag: int, code: int, body: bytes = b"") -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def _session_reply(parameters: bytes) -> bytes:
    session = b"\x00\x00\x01\x00\x00"
    return _reply(0x8002, 0, struct.pack(">I", len(parameters)) + parameters + session)
