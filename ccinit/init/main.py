"""PID 1 of the guest: be silent, block signals, boot, run, end.

Reads top to bottom as the life of the guest. The last `finally` is the outermost: whatever escapes,
KeyboardInterrupt and memory exhaustion included, ends in the same reset. There is no supervisor
above this process; if the interpreter itself dies, the kernel panics in silence.
"""

import os
import signal
import sys

from ccinit.agent.guest import STEP_SECONDS, EarlyGuest, Teardown
from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.annotations import Never
from ccinit.errors import CcinitError, as_known
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init.ending import end, reset
from ccinit.init.phases import boot, give_back_code
from ccinit.init.sequence import PhaseError
from ccinit.init.silence import silence
from ccinit.kernel import power
from ccinit.kernel.event_loop import Event, EventLoop, Interrupted, Task, deadline, sleep
from ccinit.kernel.signals import SignalSource, block_signals
from ccinit.seal.log import SealedLog

BUILD_ID_FILE = "/usr/lib/ccinit/build_id"
SETTLE_SECONDS = 5.0

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGPWR})


def main() -> Never:
    """Be PID 1; never returns.

    Any other process that runs this by mistake is told so and does nothing.
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
        while True:
            try:
                power.reboot()
            except CcinitError:
                continue


async def live(loop: EventLoop) -> None:
    """Boot the guest, keep it until something ends it, end it."""
    guest = make_guest(loop)
    loop.start(_handle_signals(guest), "signals")
    life = loop.start(_boot_and_run(guest), "life")
    loop.start(_stop_on_wish(guest, life), "stop")
    try:
        await life.join()
        cause = None
    except PhaseError as error:
        cause = error
    except Interrupted as error:
        # Our own cancellation is the orderly stop; else a background task failed.
        cause = (
            _given_up(guest) if life.was_cancelled() else _internal(guest, loop.failure or error)
        )
    except Exception as error:  # noqa: BLE001  # the outermost task boundary: sealed, then the end
        cause = _internal(guest, error)
    await _see_through(loop.start(_end_life(guest, life, cause), "end"))


async def _end_life(guest: EarlyGuest, life: Task[None], cause: PhaseError | None) -> None:
    """End the guest, and before that what still boots or runs."""
    try:
        if not life.is_done():
            async with deadline(STEP_SECONDS, "stop.life"):
                await life.stop()
    except PhaseError as error:
        guest.event(f"{error.phase.name} was cut short: {error}")
    except Exception as error:  # noqa: BLE001  # told, and nothing depends on it any more
        guest.event(f"cut short: {as_known(error)}")
    await end(guest, cause)


async def _see_through(ending: Task[None]) -> None:
    """Wait for the end; whatever fails in the background meanwhile, it is not cut short.

    If it fails itself, nobody is waited for any more: a task may hang with what the kernel does.
    """
    while not ending.is_done():
        try:
            await ending.join()
        except Interrupted:
            continue
        except Exception:  # noqa: BLE001  # a bug of ours, which nobody is left to be told of
            await reset()


def make_guest(loop: EventLoop) -> EarlyGuest:
    """Put the parts together; nothing is done yet."""
    state, log = BootState(), SealedLog()
    with open(BUILD_ID_FILE, encoding="ascii") as file:
        build_id = bytes.fromhex(file.read().strip())
    return EarlyGuest(
        loop=loop,
        state=state,
        log=log,
        service=HostService(state, build_id, log.ring),
        teardown=Teardown(),
    )


async def _boot_and_run(guest: EarlyGuest) -> None:
    started = await boot(guest)
    guest.state.enter(Phase.RUN)
    guest.log.public_event(Phase.RUN, Code.OK)
    guest.event(guest.service.figures.describe())
    guest.loop.start(_settle(guest), "settle")
    await started.run()
    if guest.state.is_debug:
        del started  # with it the values that the pod's secrets were given as
        await Event().wait()  # the grant's end stops the guest, or its host, and nothing else does
    guest.service.exit_code = started.exit_code()
    guest.state.fail(Code.WORKLOAD_EXIT)


async def _settle(guest: EarlyGuest) -> None:
    """Give back what START has run, once nobody waits for what comes next."""
    await sleep(SETTLE_SECONDS)
    give_back_code(guest, singly=True)


async def _handle_signals(guest: EarlyGuest) -> None:
    """Reap whatever nobody owns; take the orderly stop from inside the guest."""
    source = SignalSource({signal.SIGCHLD, *_STOP_SIGNALS})
    while True:
        for number in await source.next():
            if number == signal.SIGCHLD:
                from ccinit.kernel.process import reap_orphans  # noqa: PLC0415  # none before CONFIG

                reap_orphans()
            else:
                guest.service.stopping.set()


async def _stop_on_wish(guest: EarlyGuest, life: Task[None]) -> None:
    await guest.service.stopping.wait()
    life.cancel()


def _given_up(guest: EarlyGuest) -> PhaseError | None:
    """Why the guest stopped itself; None if someone wished it."""
    if not guest.failures:
        return None
    error, code = guest.failures[0]
    return PhaseError(guest.state.phase, code, error)


def _internal(guest: EarlyGuest, error: BaseException) -> PhaseError:
    """A bug of ours: the owner gets its class and place, the host one code."""
    return PhaseError(guest.state.phase, Code.INTERNAL, as_known(error))
