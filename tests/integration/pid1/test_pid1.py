"""The process that PID 1 is, without being it: what signals and its own death can do.

Each program here takes the real parts in a process of its own. What would reset the machine ends
that process instead, with a status that nothing else gives.
"""

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ccinit.kernel.signals import ALL_SIGNALS

RESET = 77
WORDS = "canary in a traceback"
WISHES = (signal.SIGTERM, signal.SIGINT, signal.SIGPWR)
OTHERS = sorted(ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP, *WISHES})

WAITS_FOR_A_WISH = """
from types import SimpleNamespace
from ccinit.init import main
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.signals import block_signals
from ccinit.kernel.task import Event

async def live(loop):
    stopping = Event()
    guest = SimpleNamespace(service=SimpleNamespace(stopping=stopping))
    loop.start(main._handle_signals(guest), "signals")
    print("ready", flush=True)
    await stopping.wait()
    print("stopping", flush=True)

{first}
loop = EventLoop()
loop.run(live(loop))
"""

DIES = """
import ctypes, os, sys
from ccinit.init import main

def make_guest(loop):
    {death}

os.getpid = lambda: 1
main.power.reboot = lambda: os._exit({reset})
main.power.sync = main.power.disable_ctrl_alt_del = lambda: None
main.make_guest = make_guest
{change}
main.main()
"""


@contextmanager
def started(program: str) -> Iterator["subprocess.Popen[str]"]:
    command = (sys.executable, "-c", program)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("wish", WISHES)
def test_r76_every_signal_is_nothing_or_a_wish_to_stop(wish: signal.Signals) -> None:
    with started(WAITS_FOR_A_WISH.format(first="block_signals()")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in OTHERS:
            process.send_signal(number)
        assert select.select([process.stdout], [], [], 0.5) == ([], [], [])
        process.send_signal(wish)
        assert process.communicate(timeout=60) == ("stopping\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1])
def test_r76_signal_that_is_not_blocked_ends_the_same_process(number: signal.Signals) -> None:
    with started(WAITS_FOR_A_WISH.format(first="")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == -number


DEATHS = {
    "exception": f"raise RuntimeError('{WORDS}')",
    "memory": f"raise MemoryError('{WORDS}')",
    "exit": f"sys.exit('{WORDS}')",
    "interrupt": f"raise KeyboardInterrupt('{WORDS}')",
    "unraisable": f"type('T', (), dict(__del__=lambda self: {{}}['{WORDS}']))(); sys.exit(1)",
}


def die(death: str, *, change: str = "") -> tuple[int, str]:
    """Let PID 1 die before there is a guest; return its status and all that it printed."""
    with started(DIES.format(death=death, reset=RESET, change=change)) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out + err


@pytest.mark.parametrize("name", DEATHS)
def test_r77_whatever_escapes_is_a_reset_without_a_word(name: str) -> None:
    assert die(DEATHS[name]) == (RESET, "")


def test_r77_interpreter_that_crashes_says_nothing() -> None:
    """The kernel's panic that follows is the guests' (R90)."""
    assert die("os.abort()") == (-signal.SIGABRT, "")
    assert die("ctypes.string_at(8)") == (-signal.SIGSEGV, "")


def test_r77_same_death_is_told_by_a_process_that_is_not_silent() -> None:
    """The control; `os._exit` would hide it, so the last `finally` is left by its own exception."""
    loud = "main.silence = lambda: None\nmain.power.reboot = lambda: 1 / 0"
    status, printed = die(DEATHS["memory"], change=loud)
    assert status == 1
    assert WORDS in printed
