"""Moves the kernel's records into the sealed log, and shows them to the storage watch."""

from ccinit.agent.guest import Guest
from ccinit.agent.storage_watch import StorageWatch
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import sleep
from ccinit.kernel.kmsg import KernelLog, KernelRecord

_AT_ONCE = 64
"""Records to seal before other tasks run.

Each time they run, the host may collect, in replies of one size: a turn after every record of the
boot (470) added 12 MB on vsock.
"""


class LogPump:
    """Seals every record of /dev/kmsg, beginning with the oldest that the kernel kept."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._log = KernelLog()
        self._watch: StorageWatch | None = None

    async def run(self) -> None:
        """Pump until cancelled."""
        try:
            while True:
                self._take(await self._log.next())
                self._take_up_to(_AT_ONCE - 1)
                await sleep(0)
        finally:
            self._log.close()

    def watch(self, watch: StorageWatch) -> None:
        """Show `watch` every record from the kernel's next one on.

        Earlier ones are sealed first, and shown to the watch before it, if there was one.
        """
        while self._take_up_to(_AT_ONCE):
            pass
        self._watch = watch

    def _take_up_to(self, count: int) -> bool:
        """Seal up to `count` records that are there; return whether there were that many."""
        for _ in range(count):
            record = self._log.read()
            if record is None:
                return False
            self._take(record)
        return True

    def _take(self, record: KernelRecord) -> None:
        if record.dropped:
            self._guest.event(f"{record.dropped} kernel records were overwritten unread")
        line = f"<{record.priority}>[{record.boottime_us}] ".encode() + record.text
        self._guest.log.append(Kind.KERNEL, "kernel", line)
        if self._watch is not None:
            self._watch.examine(record)
