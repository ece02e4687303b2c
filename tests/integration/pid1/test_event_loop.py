"""The runner with what the kernel delivers: signals, sockets, ends of processes."""

import errno
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from ccinit.errors import DeadlineError, KernelError
from ccinit.kernel import process
from ccinit.kernel.event_loop import EventLoop, TaskGroup, deadline, readable, sleep, writable
from ccinit.kernel.process import adopt, keeping_orphans, reap_orphans, spawn
from ccinit.kernel.signals import SignalSource
from tests.fakes.machine.owned import owned_pids
from tests.integration.leftovers import children

SHELL = "/bin/sh"
LIBC_SIGNALS = 0b11 << 31  # 32 and 33 belong to glibc, which passes them on as it got them
NO_ENVIRONMENT: dict[str, str] = {}


WAVE = 300
STORMS = (1, pytest.param(334, marks=(pytest.mark.long, pytest.mark.timeout(1800))))
"""How many waves of orphans that end at once."""


@pytest.fixture
def blocked() -> Iterator[SignalSource]:
    numbers = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM}
    for thread in threading.enumerate():  # of a test before: it would get what is blocked here
        if thread is not threading.main_thread():
            thread.join(60)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    source = SignalSource(numbers)
    yield source
    source.read()
    source.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shell(script: str, fds: dict[int, int] | None = None) -> process.Process:
    return spawn((SHELL, "-c", script), NO_ENVIRONMENT, fds or {})


def test_signals_arrive_by_number(blocked: SignalSource) -> None:
    async def main() -> set[int]:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        async with deadline(60, "test.late"):
            return set(await blocked.next())

    assert EventLoop().run(main()) == {signal.SIGTERM, signal.SIGUSR1}


def test_signal_wakes_a_sleeping_loop(blocked: SignalSource) -> None:
    async def send() -> None:
        await sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    async def main() -> tuple[int, ...]:
        async with deadline(60, "test.late"), TaskGroup() as group:
            group.start(send(), "send")
            return await blocked.next()

    assert EventLoop().run(main()) == (signal.SIGUSR2,)


def test_r76_signals_without_end_do_not_keep_others_from_their_turn(blocked: SignalSource) -> None:
    async def take(seen: list[int]) -> None:
        while len(seen) < 1000:
            os.kill(os.getpid(), signal.SIGUSR1)  # there before it is looked for again
            seen += await blocked.next()

    async def main() -> int:
        seen: list[int] = []
        async with TaskGroup() as group:
            group.start(take(seen), "signals")
            await sleep(0)
            await sleep(0)
            return len(seen)

    assert EventLoop().run(main()) < 10


def test_large_transfer_between_two_tasks_is_whole() -> None:
    near, far = socket.socketpair()
    near.settimeout(0)
    far.settimeout(0)
    data = os.urandom(1 << 20)

    async def send() -> None:
        rest = memoryview(data)
        while rest:
            await writable(near.fileno())
            rest = rest[near.send(rest) :]
        near.shutdown(socket.SHUT_WR)

    async def main() -> bytes:
        received = b""
        async with TaskGroup() as group:
            group.start(send(), "send")
            while True:
                await readable(far.fileno())
                piece = far.recv(1 << 16)
                if not piece:
                    return received
                received += piece

    with near, far:
        assert EventLoop().run(main()) == data


@pytest.mark.parametrize(
    ("script", "text", "good"),
    [
        pytest.param("exit 0", "exit code 0", True, id="success"),
        pytest.param("exit 7", "exit code 7", False, id="failure"),
        pytest.param("kill -9 $$", "signal 9", False, id="signal"),
    ],
)
def test_wait_tells_how_a_process_ended(script: str, text: str, good: bool) -> None:  # noqa: FBT001
    child = shell(script)
    status = EventLoop().run(child.wait())
    assert (str(status), status.is_success()) == (text, good)
    assert owned_pids() == ()


def test_killed_process_is_collected() -> None:
    async def main() -> str:
        child = shell("sleep 100")
        child.kill()
        return str(await child.wait())

    assert EventLoop().run(main()) == "signal 9"


def test_running_process_has_no_status() -> None:
    async def main() -> None:
        child = shell("sleep 100")
        assert child.collect() is None
        child.kill()
        await child.wait()
        child.kill()  # of the dead, nothing

    EventLoop().run(main())


def test_spawn_of_no_program_is_a_kernel_error_and_leaks_no_fd() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KernelError) as error:
        spawn(("/nonexistent",), NO_ENVIRONMENT, {3: 0})
    assert error.value.reason == "kernel.posix_spawn"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing within the block."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = [os.open("/", os.O_PATH)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (kept[0] + 100, before[1]))
    try:
        with suppress(OSError):
            while True:
                kept.append(os.dup(kept[0]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in kept:
            os.close(fd)


@pytest.mark.parametrize(
    ("fds", "operation"), [({}, "pidfd_open"), ({3: 2}, "posix_spawn")], ids=["late", "early"]
)
def test_r79_spawn_without_descriptors_leaves_nothing_and_works_again(
    fds: dict[int, int], operation: str
) -> None:
    """Also if the child runs already, when its parent finds no descriptor to hold it by."""
    before = children()
    with no_descriptors(), pytest.raises(KernelError) as error:
        shell("sleep 60", fds)
    assert (error.value.errno, error.value.reason) == (errno.EMFILE, f"kernel.{operation}")
    assert owned_pids() == ()
    assert children().keys() == before.keys()
    assert str(EventLoop().run(shell("exit 7", fds).wait())) == "exit code 7"


def test_spawned_process_has_only_the_listed_fds() -> None:
    """R79: also fds above the listed ones, and a source that has another target's number."""
    reader, writer = os.pipe()
    third = os.open("/etc/hostname", os.O_RDONLY)
    stray = os.dup(third)
    os.set_inheritable(stray, True)  # noqa: FBT003 - as a library might leave one
    target = {5: writer, writer: third}
    child = spawn(("/bin/ls", "-l", "/proc/self/fd"), NO_ENVIRONMENT, {1: writer, **target})
    os.close(writer)
    EventLoop().run(child.wait())
    with os.fdopen(reader, "rb") as file:
        lines = file.read().decode().splitlines()[1:]
    os.close(third)
    os.close(stray)
    links = {line.split()[-3]: line.split()[-1] for line in lines}
    own = next(number for number, link in links.items() if link.endswith("/fd"))
    del links[own]
    assert links.keys() == {"0", "1", "2", "5", str(writer)}
    assert links["0"] == links["2"] == "/dev/null"
    assert links["5"] == links["1"]
    assert links[str(writer)] == "/etc/hostname"


def test_spawned_process_has_a_session_and_no_blocked_signals(blocked: SignalSource) -> None:
    reader, writer = os.pipe()
    script = "/proc/self/status"
    child = spawn(("/bin/cat", script, "/proc/self/stat"), NO_ENVIRONMENT, {1: writer})
    os.close(writer)
    EventLoop().run(child.wait())
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert int(fields["SigBlk"], 16) == 0
    assert int(fields["SigIgn"], 16) & ~LIBC_SIGNALS == 0
    assert text.splitlines()[-1].split()[5] == str(child.pid)


@pytest.mark.parametrize("waves", STORMS)
def test_r78_orphans_are_reaped_and_owned_children_keep_their_status(
    blocked: SignalSource, waves: int
) -> None:
    """A storm of ended children, most of them nobody's."""

    async def main() -> tuple[int, list[str]]:
        owned = [shell(f"exit {number % 200 + 1}") for number in range(20)]
        reap_orphans()  # those of others
        reaped = 0
        for wave in range(1, waves + 1):
            for _ in range(WAVE):
                shell("exit 3").disown()
            async with deadline(60, "test.late"):
                while reaped < wave * WAVE:
                    await blocked.next()
                    reaped += reap_orphans()
        return reaped, [str(await child.wait()) for child in owned]

    reaped, statuses = EventLoop().run(main())
    assert reaped == waves * WAVE
    assert statuses == [f"exit code {number + 1}" for number in range(20)]
    assert owned_pids() == ()


def test_adopted_child_is_owned() -> None:
    pid = os.posix_spawn(SHELL, (SHELL, "-c", "exit 9"), NO_ENVIRONMENT)
    child = adopt(pid)
    assert owned_pids() == (pid,)
    assert str(EventLoop().run(child.wait())) == "exit code 9"


def test_adopting_a_stranger_is_refused() -> None:
    with pytest.raises(KernelError) as error:
        adopt(1)
    assert error.value.reason == "kernel.waitid"


def test_disowned_child_is_left_to_the_reaper() -> None:
    reap_orphans()  # those of others
    child = shell("exit 5")
    child.disown()
    assert owned_pids() == ()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert reap_orphans() == 1


def test_r78_disowned_children_are_reaped_while_others_are_about_to_be_adopted() -> None:
    """A pod whose probes overlap has always one that keeps orphans, for as long as it lives."""
    reap_orphans()  # those of others
    kept = os.posix_spawn(SHELL, (SHELL, "-c", "exit 9"), NO_ENVIRONMENT)
    reaped = 0
    with ExitStack() as first:
        first.enter_context(keeping_orphans())
        for _ in range(50):
            late = shell("exit 5")
            late.disown()
            os.waitid(os.P_PID, late.pid, os.WEXITED | os.WNOWAIT)
            with ExitStack() as following:
                following.enter_context(keeping_orphans())
                first.close()
                first.push(following.pop_all())
            reaped += reap_orphans()
        assert reaped == 50
        child = adopt(kept)  # which has ended long ago, and is there still
    assert str(EventLoop().run(child.wait())) == "exit code 9"


def test_deadline_around_a_process_leaves_it_running_for_the_caller_to_kill() -> None:
    async def main() -> str:
        child = shell("sleep 100")
        try:
            async with deadline(0.01, "test.late"):
                await child.wait()
        except DeadlineError as error:
            child.kill()
            await child.wait()
            return error.reason
        return "not late"

    assert EventLoop().run(main()) == "test.late"
