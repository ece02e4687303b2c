"""When the sealed log is signed, or shown to the host, though nothing happens."""

from ccinit.formats.initdata.guest_config import LogConfig
from ccinit.kernel.event_loop import sleep
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
