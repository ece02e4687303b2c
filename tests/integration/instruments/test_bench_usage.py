"""What the benchmarks say of processor time and memory, of processes that take known amounts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

from tests.bench.usage import Peak, processor_seconds, watch_memory

HOLD = "held = b'x' * (64 << 20); print(flush=True); input()"
LOOK_SECONDS = 0.3  # thirty looks
PATIENCE_SECONDS = 30.0


def wait_for(peak: Peak, held_bytes: int) -> None:
    """Wait until so much was seen, and then as long as would show more."""
    end = time.monotonic() + PATIENCE_SECONDS
    while peak.bytes <= held_bytes and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(LOOK_SECONDS)


@contextmanager
def holding(*words: str) -> Iterator[None]:
    """Have one process for each word, and in each of them 64 MiB."""
    with ExitStack() as stack:
        held = [
            stack.enter_context(
                subprocess.Popen(
                    (sys.executable, "-c", HOLD, word),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for word in words
        ]
        for process in held:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
        yield
        for process in held:
            process.communicate(b"\n")


def test_processor_time_is_that_of_children_that_ended() -> None:
    before, began = processor_seconds(), time.monotonic()
    loop = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    subprocess.run((sys.executable, "-c", loop), check=True)
    spent = processor_seconds() - before
    assert 0.2 <= spent <= time.monotonic() - began + 0.1


def test_memory_is_that_of_all_that_run_together() -> None:
    with watch_memory() as peak, holding("one", "another"):
        wait_for(peak, 2 * (64 << 20))
    assert 2 * (64 << 20) < peak.bytes < 3 * (64 << 20)


def test_memory_of_the_resident_process_counts_apart() -> None:
    with watch_memory("resident") as peak, holding("resident", "another"):
        wait_for(peak, 2 * (64 << 20))
    assert 2 * (64 << 20) < peak.bytes < 3 * (64 << 20)
    assert (64 << 20) < peak.own_bytes < 2 * (64 << 20)


def test_memory_that_a_process_borrows_until_it_has_its_own_counts_once() -> None:
    # What posix_spawn starts waits in its parent's memory, for nobody reads the FIFO.
    borrow = (
        "import os, sys\n"
        "held = b'x' * (64 << 20)\n"
        "action = (os.POSIX_SPAWN_OPEN, 1, sys.argv[1], os.O_WRONLY, 0)\n"
        "print(flush=True)\n"
        "os.posix_spawn('/bin/true', ['true'], {}, file_actions=[action])\n"
    )
    with TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        command = (sys.executable, "-c", borrow, f"{folder}/fifo")
        with (
            watch_memory() as peak,
            subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process,
        ):
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            wait_for(peak, 64 << 20)
            os.killpg(process.pid, signal.SIGKILL)
    assert (64 << 20) < peak.bytes < 2 * (64 << 20)


def test_memory_of_what_ran_before_does_not_count() -> None:
    with holding("before"), watch_memory() as peak:
        time.sleep(LOOK_SECONDS)
    assert peak.bytes == 0
