"""The kernel's own records into the sealed log."""

from ccinit.agent.guest import Guest
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.kmsg import KernelLog


async def pump_kernel_log(guest: Guest) -> None:
    """Seal every record of /dev/kmsg, the oldest kept one first, until cancelled."""
    log = KernelLog()
    try:
        while True:
            record = await log.next()
            if record.dropped:
                guest.event(f"{record.dropped} kernel records were overwritten unread")
            line = f"<{record.priority}>[{record.boottime_us}] ".encode() + record.text
            guest.log.append(Kind.KERNEL, "kernel", line)
    finally:
        log.close()
