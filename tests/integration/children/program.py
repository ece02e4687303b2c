"""A child whose roles do what a taken-over parser would try. Run like `ccinit child …`."""

import ctypes
import fcntl
import gc
import mmap
import os
import select
import shutil
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Mapping

from ccinit.agent.jobs.index import run_each
from ccinit.agent.processes.channel import Kind, encode_frame, encode_named
from ccinit.agent.processes.child import JobChannel, main
from ccinit.agent.processes.roles import RIGHTS, Rights, Role
from ccinit.errors import KernelError, VerificationError
from ccinit.values import frozen, replace

NR_KEYCTL, NR_MOUNT, NR_PTRACE, NR_UNSHARE = 250, 165, 101, 272
PTRACE_ATTACH = 16
KEEP_SIZE, PUNCH_HOLE = 1, 2
RWF_NOAPPEND = 0x20


@frozen
class Order:
    """Which of the deeds below, and with what."""

    deed: str
    text: str = ""
    number: int = 0


@frozen
class Outcome:
    text: str = ""
    number: int = 0
    data: bytes = b""


@frozen
class Halt:
    """Question: look at me."""

    pid: int


@frozen
class Continue:
    number: int = 0


@frozen
class Step:
    """Notice."""

    number: int


def echo(order: Order, _channel: JobChannel) -> Outcome:
    return Outcome(text=order.text, number=order.number)


def halt(_order: Order, channel: JobChannel) -> Outcome:
    return Outcome(number=channel.ask(Halt(pid=os.getpid()), Continue).number)


def count(order: Order, channel: JobChannel) -> Outcome:
    for number in range(order.number):
        channel.notify(Step(number=number))
    return Outcome(number=order.number)


def grow(order: Order, _channel: JobChannel) -> Outcome:
    return Outcome(data=bytes(order.number))


def swallow(order: Order, _channel: JobChannel) -> Outcome:
    return Outcome(number=len(bytearray(order.number)))


def write_given_fd(order: Order, channel: JobChannel) -> Outcome:
    _answer, (fd,) = channel.ask_for_fds(Halt(pid=os.getpid()), Continue)
    os.write(fd, order.text.encode())
    os.close(fd)
    return Outcome()


def change_what_is_written(order: Order, channel: JobChannel) -> Outcome:
    """Write through an fd that appends, and try to write something else in its place."""
    _answer, (fd,) = channel.ask_for_fds(Halt(pid=os.getpid()), Continue)
    os.write(fd, b"as it was")
    match order.text:
        case "seek":
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, b"changed")
        case "flags":
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.pwrite(fd, b"changed", 0)
        case "pwrite":
            os.pwrite(fd, b"changed", 0)
        case "pwritev2":
            os.pwritev(fd, [b"changed"], 0, RWF_NOAPPEND)
        case "truncate":
            os.ftruncate(fd, 0)
            os.write(fd, b"changed")
        case "punch":
            no_bytes = (ctypes.c_long(0), ctypes.c_long(len(b"as it was")))
            ctypes.CDLL(None).fallocate(fd, PUNCH_HOLE | KEEP_SIZE, *no_bytes)
        case "map":
            mmap.mmap(fd, 9, mmap.MAP_SHARED, mmap.PROT_WRITE)[:7] = b"changed"
        case "reopen":
            os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"changed", 0)
    return Outcome(text="done")


def leave_garbage(_order: Order, _channel: JobChannel) -> Outcome:
    """Say how many objects are looked at for garbage no more, and what was found of ours."""
    mine: list[object] = []
    mine.append(mine)
    del mine
    return Outcome(text=str(gc.isenabled()), number=gc.collect(), data=b"x" * gc.get_freeze_count())


def list_fds(_order: Order, channel: JobChannel) -> Outcome:
    """Those that came through exec; newer versions of libffi hold one of their own."""
    open_fds = []
    for fd in range(1024):
        try:
            came = os.get_inheritable(fd)
        except OSError:
            continue
        if came:
            open_fds.append(f"{fd}")
    return Outcome(text=" ".join(open_fds), number=channel.fds.get("given", -1))


def read_secret(_order: Order, channel: JobChannel) -> Outcome:
    with channel.read_secret("key") as secret:
        return Outcome(data=secret.reveal()[::-1])


def refuse(order: Order, _channel: JobChannel) -> Outcome:
    raise VerificationError("pull.digest", order.text)


def refuse_by_kernel(_order: Order, _channel: JobChannel) -> Outcome:
    raise KernelError(5, "dm", "volume")


def stumble(_order: Order, _channel: JobChannel) -> Outcome:
    raise ValueError("a secret in a message")


def end(order: Order, _channel: JobChannel) -> Outcome:
    os._exit(order.number)


def crash(_order: Order, _channel: JobChannel) -> Outcome:
    return Outcome(data=ctypes.string_at(8))


def hang(_order: Order, _channel: JobChannel) -> Outcome:
    while True:
        time.sleep(100)


def babble(order: Order, channel: JobChannel) -> Outcome:
    """Write raw bytes to the channel."""
    channel._connection.sendall(bytes.fromhex(order.text))
    return hang(order, channel)


def linger(order: Order, channel: JobChannel) -> Outcome:
    """Give the result, and stay."""
    channel.end(Kind.RESULT, Outcome(text=order.text))
    return hang(order, channel)


def flood(_order: Order, channel: JobChannel) -> Outcome:
    while True:
        channel.notify(Step(number=1))


def wrong_type(_order: Order, channel: JobChannel) -> Outcome:
    channel._connection.sendall(encode_frame(Kind.RESULT, Step(number=7)))
    os._exit(0)


def close_channel(order: Order, channel: JobChannel) -> Outcome:
    channel._connection.close()
    return hang(order, channel)


def pass_fd(_order: Order, channel: JobChannel) -> Outcome:
    frame = encode_frame(Kind.RESULT, Outcome(text="with fd"))
    socket.send_fds(channel._connection, [frame], [channel._connection.fileno()])
    os._exit(0)


def pass_fd_by_another_call(_order: Order, channel: JobChannel) -> Outcome:
    """By sendmmsg(2), which Python does not have: one `struct mmsghdr`."""
    fd = channel._connection.fileno()
    frame = ctypes.create_string_buffer(encode_frame(Kind.RESULT, Outcome(text="with fd")))
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(frame), len(frame) - 1)
    control = struct.pack("=QiiiI", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, fd, 0)
    passed = ctypes.create_string_buffer(control, len(control))
    message = (ctypes.c_size_t * 8)(
        0, 0, ctypes.addressof(vector), 1, ctypes.addressof(passed), len(passed), 0, 0
    )
    if ctypes.CDLL(None).sendmmsg(fd, message, 1, 0) != 1:
        os._exit(1)
    os._exit(0)


def hold_back_its_close(_order: Order, _channel: JobChannel) -> Outcome:
    """Let whoever closes a socket last wait until its peer has taken everything."""
    with socket.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
    return Outcome(text="set")


def open_file(order: Order, _channel: JobChannel) -> Outcome:
    with open(order.text, "rb") as file:  # noqa: PTH123
        return Outcome(data=file.read(100))


def write_file(order: Order, _channel: JobChannel) -> Outcome:
    with open(order.text, "wb") as file:  # noqa: PTH123
        file.write(b"written")
    return Outcome()


def open_socket(order: Order, _channel: JobChannel) -> Outcome:
    socket.socket(order.number, socket.SOCK_STREAM).close()
    return Outcome(text="open")


def listen_tcp(_order: Order, _channel: JobChannel) -> Outcome:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
    return Outcome(text="bound")


def connect_tcp(order: Order, _channel: JobChannel) -> Outcome:
    socket.create_connection(("localhost", order.number), 5).close()
    return Outcome(text="connected")


def tls(order: Order, _channel: JobChannel) -> Outcome:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=order.text)
    with (
        socket.create_connection(("localhost", order.number), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"ping")
        return Outcome(data=connection.recv(100))


def fork(_order: Order, _channel: JobChannel) -> Outcome:
    return Outcome(number=os.fork())


def execute(_order: Order, _channel: JobChannel) -> Outcome:
    os.execve("/bin/true", ("true",), {})


def become_root(_order: Order, _channel: JobChannel) -> Outcome:
    os.setuid(0)
    return Outcome(text="root")


def kill_init(_order: Order, _channel: JobChannel) -> Outcome:
    os.kill(1, signal.SIGTERM)
    return Outcome(text="sent")


def signal_by_file(order: Order, channel: JobChannel) -> Outcome:
    """Have the kernel send SIGKILL to a process, this one if none is named, when bytes come.

    It sends nothing for bytes that a `recv` waits for, so this waits by `poll`. The kernel wakes
    the poll before it sends the signal, but has sent it by the time of the next answer.
    """
    fd = channel._connection.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, order.number or os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC)
    question = encode_named(Kind.QUESTION, Halt(pid=os.getpid()))
    channel._connection.sendall(question)
    arrivals = select.poll()
    arrivals.register(fd, select.POLLIN)
    arrivals.poll()
    channel.receive(Kind.ANSWER)
    return Outcome(number=channel.ask(Halt(pid=os.getpid()), Continue).number)


def raw(order: Order, _channel: JobChannel) -> Outcome:
    """Call a system call that no wrapper of Python has."""
    result = ctypes.CDLL(None).syscall(order.number, *map(int, order.text.split()))
    return Outcome(number=result)


def executable_memory(_order: Order, _channel: JobChannel) -> Outcome:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return Outcome(text="mapped")


def netlink(_order: Order, _channel: JobChannel) -> Outcome:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.bind((0, 0))
        return Outcome(text="bound")


def start_programs(order: Order, _channel: JobChannel) -> Outcome:
    """Run each line of the text by the shell, which is the program of the role here."""
    run_each(SHELL, tuple(("-c", line) for line in order.text.splitlines()))
    return Outcome(text="all")


DEEDS: Mapping[str, Callable[[Order, JobChannel], Outcome]] = {
    deed.__name__: deed
    for deed in (
        echo, halt, count, grow, swallow, write_given_fd, change_what_is_written, leave_garbage,
        list_fds, read_secret, refuse, refuse_by_kernel, stumble, end, crash, hang, linger, babble,
        flood, wrong_type,
        close_channel, pass_fd, pass_fd_by_another_call, hold_back_its_close,
        open_file, write_file, open_socket, listen_tcp, connect_tcp, tls,
        fork, execute, become_root, kill_init, signal_by_file, raw, executable_memory, netlink,
        start_programs,
    )
}  # fmt: skip


def run(order: Order, channel: JobChannel) -> Outcome:
    return DEEDS[order.deed](order, channel)


def host_path(program: str) -> str:
    """Where this machine has a program of the image."""
    name = program.rpartition("/")[2]
    return shutil.which(name, path="/usr/sbin:/usr/bin") or program


SHELL = "/bin/sh"

TABLE: Mapping[Role, Rights] = {
    role: replace(rights, job=host_path(rights.job))
    if rights.is_program()
    else replace(
        rights,
        job="tests.integration.children.program:run",
        messages=200,
        may_start=rights.may_start and SHELL,
    )
    for role, rights in RIGHTS.items()
}

if __name__ == "__main__":
    # Under its own name too, or the job would see other classes than this file's.
    sys.modules["tests.integration.children.program"] = sys.modules["__main__"]
    main(sys.argv[2:], TABLE)
