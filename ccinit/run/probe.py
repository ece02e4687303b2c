"""Probing a container repeatedly for whether it works.

Scope: one probe, the intervals between probes, and when answers become a verdict. Left to others:
starting a program in the container (given), and acting on a verdict (`ccinit.run.supervisor`).
"""

import os
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from ccinit.errors import CcinitError
from ccinit.formats.pod.probe import LivenessProbe, Probe
from ccinit.kernel.event_loop import TaskGroup, at_most, sleep
from ccinit.kernel.loopback import accepts_connections
from ccinit.kernel.process import Process
from ccinit.run.stdio import open_outputs, pump

Ask: TypeAlias = Callable[[Probe], Awaitable[bool]]
"""Probes once; never raises for what a container does."""


class Execute(Protocol):
    """See `ccinit.run.supervisor.Supervisor.exec`."""

    async def __call__(
        self, arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        """Start a program in the container."""


def asking(execute: Execute, address: str, say: Callable[[str], None]) -> Ask:
    """Return a function that probes the container behind `execute`, and says why it failed."""

    async def ask(probe: Probe) -> bool:
        try:
            if probe.tcp_port:
                return await accepts_connections(probe.tcp_port, address, probe.timeout_seconds)
            return await _run(execute, probe)
        except CcinitError as error:
            say(f"probe: {error}")
            return False

    return ask


async def _run(execute: Execute, probe: Probe) -> bool:
    """Run a probe's program on pipes of its own: crun chowns its streams to the container's user.

    With /dev/null as a stream, the container could then close that to every child of the guest.
    """
    nothing, output = open_outputs(2)
    os.close(nothing.writer)
    try:
        try:
            program = await execute(
                probe.exec, stdin=nothing.reader, stdout=output.writer, stderr=output.writer
            )
        finally:
            os.close(nothing.reader)
            os.close(output.writer)
        async with TaskGroup() as group:
            group.start(pump(output.reader, _forget), "probe output")
            good = await _succeeds(program, probe.timeout_seconds)
            group.cancel()
        return good
    finally:
        os.close(output.reader)


def _forget(_data: bytes) -> None:
    """Discard the probe's output."""


async def _succeeds(program: Process, seconds: float) -> bool:
    try:
        async with at_most(seconds):
            return (await program.wait()).is_success()
        return False
    finally:
        # do not wait: a process that hangs in the kernel must not hold up the next probe
        program.kill()
        program.disown()


async def wait_for_yes(probe: Probe, ask: Ask) -> None:
    """Wait for the first positive answer."""
    await sleep(probe.delay_seconds)
    while not await ask(probe):
        await sleep(probe.period_seconds)


async def wait_for_no(alive: LivenessProbe, ask: Ask) -> None:
    """Wait until as many answers in a row were negative as end a program."""
    probe = alive.probe
    await sleep(probe.delay_seconds)
    failures = 0
    while True:
        failures = 0 if await ask(probe) else failures + 1
        if failures == alive.failures:
            return
        await sleep(probe.period_seconds)
