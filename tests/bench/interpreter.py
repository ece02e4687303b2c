"""One start of an interpreter: how long until it answers, and how much memory it then holds.

An answer is the first bytes on a socket that the process was given. Memory is PSS (proc(5),
smaps_rollup), in which unshared pages count whole. Nobody else runs this root's interpreter, so
this is what the process costs a guest.
"""

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.guest_root import ENVIRONMENT, GuestRoot
from tests.bench.measurement import BenchError
from tests.bench.usage import read_pss

_ANSWER_SECONDS = 30.0
_BARE = "import posix; posix.write({0}, b'.'); posix.read({0}, 1)"
_CHUNK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What one start took and costs."""

    milliseconds: float
    pss_bytes: int


def start_pid1(root: GuestRoot, program: str, hello: bytes, reply_bytes: int) -> Start:
    """Start PID 1's program (`guest_programs/pid1.py`); its answer is the reply to a hello."""
    return _start(lambda fd: root.command(program, str(fd)), hello, reply_bytes)


def start_bare(root: GuestRoot) -> Start:
    """Start the interpreter with one built-in module; its answer is one byte."""
    return _start(lambda fd: root.command("-c", _BARE.format(fd)), b"", 1)


def start_loader(root: GuestRoot) -> Start:
    """Start the dynamic loader, which prints its version: the cost of starting any program here."""
    loader = "/lib64/ld-linux-x86-64.so.2"
    return _start(lambda _fd: ("chroot", str(root.path), loader, "--version"), b"", 1)


def _start(command: Callable[[int], tuple[str, ...]], question: bytes, answer_bytes: int) -> Start:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(_ANSWER_SECONDS)
        ours.sendall(question)
        number = theirs.fileno()
        words = command(number)
        began = time.perf_counter()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=number,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            pass_fds=(number,),
        )
        theirs.close()
        try:
            answered = _receive(ours, answer_bytes)
            seconds = time.perf_counter() - began
            pss_bytes = read_pss(process.pid)
        finally:
            process.kill()
            last_words = process.communicate()[1].decode(errors="replace")[-500:]
    if not answered:
        raise BenchError(f"{words[-2:]} did not answer: {last_words}")
    return Start(milliseconds=seconds * 1000, pss_bytes=pss_bytes)


def _receive(connection: socket.socket, count: int) -> bool:
    """Wait for `count` bytes; say whether they came."""
    try:
        while count > 0 and (data := connection.recv(_CHUNK_BYTES)):
            count -= len(data)
    except TimeoutError:
        return False
    return count <= 0
