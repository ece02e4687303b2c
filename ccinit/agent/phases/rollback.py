"""Volumes with a rollback counter in the KBS: compared at UNLOCK, advanced at open and at close.

`ccinit.unlock.rollback` says what is compared with what, and why in this order. Each advance is a
handshake of its own, because the session of ATTEST ended with its child. At the end of the guest
the KBS is told after the volume was closed; if that fails, the volume stays one ahead.
"""

from typing import Self

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.kbs import CounterStep
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import request_resources
from ccinit.errors import DeadlineError, PeerError, VerificationError
from ccinit.formats.kbs.rollback_counter import HOLDER_BYTES, CounterAdvance, counter_uri
from ccinit.formats.pod.volume import PersistentVolume, RollbackAnchor
from ccinit.kernel.entropy import random_bytes
from ccinit.unlock.rollback import read_counter, verify_counter, write_counter

_CLOSE_SECONDS = 30.0


class Anchor:
    """The counter of one volume during this boot."""

    def __init__(
        self, guest: Guest, configured: Configured, volume: PersistentVolume, known: int
    ) -> None:
        """Args: known: the counter's value at ATTEST."""
        self._guest = guest
        self._configured = configured
        self._name = volume.name
        self._counter = known
        self._directory = ""
        self._holder = random_bytes(HOLDER_BYTES)
        self._is_written = self._is_closed = False

    @classmethod
    def of(
        cls, guest: Guest, configured: Configured, attested: Attested, volume: PersistentVolume
    ) -> Self | None:
        """Return the anchor of a volume, if the manifest asks for one."""
        if volume.rollback is not RollbackAnchor.KBS_COUNTER:
            return None
        uri = counter_uri(configured.manifest.name, volume.name)
        return cls(guest, configured, volume, attested.counters[uri])

    @property
    def may_create(self) -> bool:
        """Whether a blank disk can be this volume: not once the counter has advanced."""
        return self._counter == 0

    async def open(self, directory: str) -> None:
        """Compare and advance, before anything on the volume is used.

        Args:
            directory: the guest's own, on the mounted volume.

        Raises:
            VerificationError: `volume.rollback`, `volume.counter_ahead`, `volume.counter`.
            KernelError: the new number cannot be written to the volume.
            PeerError, DeadlineError: the KBS does not advance the counter.
        """
        found = read_counter(directory)
        verify_counter(self._name, found, self._counter)
        self._counter += 1
        if found < self._counter:
            write_counter(directory, self._counter)
        await self._advance()
        self._directory = directory

    def write(self) -> None:
        """Write the number of a clean close, before the volume is unmounted.

        Raises:
            KernelError: it could not be written to the disk.
        """
        write_counter(self._directory, self._counter + 1)
        self._is_written = True

    def note_closed(self) -> None:
        """Note that the volume is unmounted and flushed."""
        self._is_closed = self._is_written

    async def tell_kbs(self) -> None:
        """Advance the KBS's counter to that number, once the volume is closed.

        After debug has opened, the KBS accepts no more evidence from this boot, so a failure is
        expected then.

        Raises:
            PeerError, DeadlineError: the KBS was not told; the next boot will tell it.
        """
        if not self._is_closed:
            return
        self._counter += 1
        try:
            await self._advance(_CLOSE_SECONDS)
        except (PeerError, DeadlineError) as error:
            if not self._guest.state.is_debug:
                raise
            self._guest.event(
                f"rollback counter of volume {self._name} is left to the next boot: {error}"
            )

    async def _advance(self, max_seconds: float = float("inf")) -> None:
        uri = counter_uri(self._configured.manifest.name, self._name)
        advance = CounterAdvance(to=self._counter, holder=self._holder)
        step = CounterStep(uri=uri, advance=advance)
        reply = await request_resources(
            self._guest, self._configured, (), counters=(step,), max_seconds=max_seconds
        )
        if reply.counters != (self._counter,):
            raise VerificationError("volume.counter_reply", f"{self._name}: the KBS is elsewhere")
        self._guest.event(f"rollback counter of volume {self._name} is {self._counter}")
