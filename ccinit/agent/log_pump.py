"""The kernel's own records into the sealed log, and before whoever else has to see them."""

from ccinit.agent.guest import Guest
from ccinit.agent.storage_watch import StorageWatch
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import sleep
from ccinit.kernel.kmsg import KernelLog, KernelRecord

_AT_ONCE = 64
"""Records before others have their turn. In each the host may collect what is there, in replies of
one size: with a turn for every record the boot's 470 were 12 MB more on vsock."""


class LogPump:
    """Seals every record of /dev/kmsg, the oldest kept one first."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._log = KernelLog()
        self._watch: StorageWatch | None = None

    async def run(self) -> None:
        """Pump until cancelled."""
        try:
            while True:
                self._take(await self._log.next())
                self._take_some(_AT_ONCE - 1)
                await sleep(0)
        finally:
            self._log.close()

    def watch(self, watch: StorageWatch) -> None:
        """From the next record of the kernel's on, show them to `watch`.

        Those until now are taken first: while disks were told apart, blocks that do not
        authenticate were no faults.
        """
        while self._take_some(_AT_ONCE):
            pass
        self._watch = watch

    def _take_some(self, most: int) -> bool:
        """Take what is there, up to so many records; return whether there were as many."""
        for _ in range(most):
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
            self._watch.see(record)
