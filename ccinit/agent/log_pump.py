"""What the sealed log gets from PID 1's loop: the kernel's own records, and its pace."""

from ccinit.agent.guest import Guest
from ccinit.formats.guest_config import LogConfig
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.kmsg import KernelLog
from ccinit.kernel.task import sleep
from ccinit.seal.log import SealedLog


async def keep_pace(log: SealedLog, config: LogConfig) -> None:
    """Show the host a batch, or else sign the log, at fixed times until cancelled.

    A batch ends with a signature if it had to be filled, so it is a heartbeat too.
    """
    while config.batch_ms:
        await sleep(config.batch_ms / 1000)
        log.release_batch()
    while config.heartbeat_seconds:
        await sleep(config.heartbeat_seconds)
        log.sign()


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
