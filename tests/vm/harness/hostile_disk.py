"""A disk of the host's that lies when it is told to: an NBD server, of which QEMU makes a disk.

The fault is outside of the guest, where a host's would be: the guest's kernel sees a virtio disk
and its answers. Simple replies of the NBD protocol ("fixed newstyle", doc/proto.md of the NBD
project); one connection at a time, which is what QEMU makes. Content is in memory.
"""

import contextlib
import mmap
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

EIO, ENOSPC = 5, 28
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3

_GREETING = b"NBDMAGIC" + b"IHAVEOPT" + (3).to_bytes(2, "big")  # fixed newstyle, no zeroes
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC = 0x0003E889045565A9
_OPT_GO, _OPT_INFO = 7, 6
_REP_ACK, _REP_INFO, _REP_ERR_UNSUPPORTED = 1, 3, 0x80000001
_EXPORT = struct.Struct(">HQH")
_FLAGS = 1 | 4 | 8  # has flags, takes flushes, takes writes that are to be durable
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_REPLY = struct.Struct(">IIQ")
_REPLY_MAGIC = 0x67446698

Fault = Callable[["HostileDisk", int, int, int], bytes | int | None]
"""From kind, offset and length of a request to other bytes, an errno, or None: as it should be."""


class _Gone(Exception):  # noqa: N818  # an end, not a fault
    """The other side has closed."""


@dataclass
class HostileDisk:
    """One disk.

    Attributes:
        fault: asked about every request.
        hits: how many requests it has answered.
        old: the content when the host last took a copy.
    """

    size_bytes: int
    fault: Fault | None = None
    hits: int = 0
    content: mmap.mmap = field(init=False)
    old: bytes = b""

    def __post_init__(self) -> None:
        self.content = mmap.mmap(-1, self.size_bytes)

    def answer(self, kind: int, offset: int, data: bytes, length: int) -> bytes | int:
        """Return what was read, b"" for a request that was carried out, or an errno."""
        lie = self.fault(self, kind, offset, length) if self.fault else None
        if lie is not None:
            self.hits += 1
            return lie
        if kind == READ:
            return self.content[offset : offset + length]
        if kind == WRITE:
            self.content[offset : offset + length] = data
        return b""


class DiskServer:
    """Serves one disk on a socket, from a thread; a context manager."""

    def __init__(self, disk: HostileDisk, path: Path) -> None:
        self._disk = disk
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, self._connection):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        for one in (self._listener, self._connection):  # a late thread must not find another's
            if one is not None:
                one.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError, _Gone):
            while True:
                self._connection, _ = self._listener.accept()
                with contextlib.suppress(_Gone):
                    _negotiate(self._connection, self._disk)
                    while True:
                        _answer_one(self._connection, self._disk)


def _negotiate(connection: socket.socket, disk: HostileDisk) -> None:
    connection.sendall(_GREETING)
    _receive(connection, 4)
    while True:
        _, option, length = _OPTION.unpack(_receive(connection, _OPTION.size))
        _receive(connection, length)

        def reply(kind: int, data: bytes = b"", to: int = option) -> None:
            head = _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, to, kind, len(data))
            connection.sendall(head + data)

        if option in (_OPT_GO, _OPT_INFO):
            reply(_REP_INFO, _EXPORT.pack(0, disk.size_bytes, _FLAGS))
            reply(_REP_ACK)
            if option == _OPT_GO:
                return
        else:
            reply(_REP_ERR_UNSUPPORTED)


def _answer_one(connection: socket.socket, disk: HostileDisk) -> None:
    magic, _, kind, cookie, offset, length = _REQUEST.unpack(_receive(connection, _REQUEST.size))
    assert magic == _REQUEST_MAGIC
    if kind == DISCONNECT:
        raise _Gone
    data = _receive(connection, length) if kind == WRITE else b""
    answer = disk.answer(kind, offset, data, length)
    error, content = (answer, b"") if isinstance(answer, int) else (0, answer)
    connection.sendall(_REPLY.pack(_REPLY_MAGIC, error, cookie) + content)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise _Gone
        data += piece
    return bytes(data)
