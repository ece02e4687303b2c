"""PID 1 of the guest: be silent, block signals, boot, run, end.

Read from top to bottom, this is the life of the guest. The `finally` in `main` is the outermost
handler: whatever escapes, KeyboardInterrupt and memory exhaustion included, ends in the same reset.
Nothing supervises this process; if the interpreter itself dies, the kernel panics silently.
"""

import os
import signal
import sys

from ccinit.agent.guest import EarlyGuest, assemble
from ccinit.agent.teardown import STEP_SECONDS
from ccinit.annotations import Never
from ccinit.errors import as_known
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init.ending import end, reset
from ccinit.init.phases import boot, give_back_memory
from ccinit.init.sequence import PhaseError
from ccinit.init.silence import silence
from ccinit.kernel import power
from ccinit.kernel.event_loop import Event, EventLoop, Interrupted, Task, deadline, sleep
from ccinit.kernel.signals import SignalSource, block_signals

BUILD_ID_FILE = "/usr/lib/ccinit/build_id"
SETTLE_SECONDS = 5.0

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGPWR})


def main() -> Never:
    """Be PID 1; never returns.

    Any other process that runs this by mistake gets an error message and exits.
    """
    if os.getpid() != 1:
        sys.exit("ccinit is PID 1 of a confidential guest and does nothing elsewhere")
    try:
        silence()
        os.umask(0o077)
        block_signals()
        power.disable_ctrl_alt_del()
        loop = EventLoop()
        loop.run(live(loop))
    finally:
        power.sync()
        power.reset()


async def live(loop: EventLoop) -> None:
    """Boot the guest, keep it until something ends it, end it."""
    guest = make_guest(loop)
    loop.start(_handle_signals(guest), "signals")
    life = loop.start(_boot_and_run(guest), "life")
    loop.start(_stop_on_request(guest, life), "stop")
    try:
        await life.join()
        cause = None
    except PhaseError as error:
        cause = error
    except Interrupted as error:
        # If `life` was cancelled, this is an orderly stop; otherwise a background task failed.
        cause = (
            _own_failure(guest) if life.was_cancelled() else _internal(guest, loop.failure or error)
        )
    except Exception as error:  # noqa: BLE001  # the outermost task boundary: sealed, then the end
        cause = _internal(guest, error)
    await _await_ending(loop.start(_end_life(guest, life, cause), "end"))


async def _end_life(guest: EarlyGuest, life: Task[None], cause: PhaseError | None) -> None:
    """Stop whatever is still booting or running, then end the guest."""
    try:
        if not life.is_done():
            async with deadline(STEP_SECONDS, "stop.life"):
                await life.stop()
    except PhaseError as error:
        guest.event(f"{error.phase.name} was cut short: {error}")
    except Exception as error:  # noqa: BLE001  # logged; nothing depends on it any more
        guest.event(f"cut short: {as_known(error)}")
    await end(guest, cause)


async def _await_ending(ending: Task[None]) -> None:
    """Wait for the ending to finish, even if background tasks fail meanwhile.

    If the ending itself fails, reset without waiting for any task: one may be stuck in the kernel.
    """
    while not ending.is_done():
        try:
            await ending.join()
        except Interrupted:
            continue  # it may have come in the turn in which the ending failed, too
        except Exception:  # noqa: BLE001  # a bug of ours, with nobody left to report it to
            break
    if ending.failure is not None:
        await reset()


def make_guest(loop: EventLoop) -> EarlyGuest:
    """Assemble the guest of this image."""
    with open(BUILD_ID_FILE, encoding="ascii") as file:
        return assemble(loop, bytes.fromhex(file.read().strip()))


async def _boot_and_run(guest: EarlyGuest) -> None:
    started = await boot(guest)
    guest.state.enter(Phase.RUN)
    guest.log.public_event(Phase.RUN, Code.OK)
    guest.event(guest.figures.describe(guest.service.first_answer_us))
    guest.loop.start(_settle(guest), "settle")
    await started.run()
    if guest.state.is_debug:
        del started  # and with it the values of the pod's secrets
        await Event().wait()  # only the grant's expiry or the host stops the guest now
    guest.service.exit_code = started.exit_code()
    guest.state.fail(Code.WORKLOAD_EXIT)


async def _settle(guest: EarlyGuest) -> None:
    """Give back the memory that START used, once the pod has had time to settle."""
    await sleep(SETTLE_SECONDS)
    give_back_memory(guest, singly=True)


async def _handle_signals(guest: EarlyGuest) -> None:
    """Reap orphans; a stop signal from inside the guest requests an orderly stop."""
    source = SignalSource({signal.SIGCHLD, *_STOP_SIGNALS})
    while True:
        for number in await source.next():
            if number == signal.SIGCHLD:
                from ccinit.kernel.process import reap_orphans  # noqa: PLC0415  # none before CONFIG

                reap_orphans()
            else:
                guest.service.stopping.set()


async def _stop_on_request(guest: EarlyGuest, life: Task[None]) -> None:
    await guest.service.stopping.wait()
    life.cancel()


def _own_failure(guest: EarlyGuest) -> PhaseError | None:
    """Return why the guest stopped itself; None if it was asked to stop."""
    if not guest.failures:
        return None
    error, code = guest.failures[0]
    return PhaseError(guest.state.phase, code, error)


def _internal(guest: EarlyGuest, error: BaseException) -> PhaseError:
    """Report a bug of ours: the owner gets its class and place, the host a single code."""
    return PhaseError(guest.state.phase, Code.INTERNAL, as_known(error))
