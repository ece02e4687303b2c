"""The sealed log's beginning: its key, and the evidence that binds it to this guest."""

from ccinit.agent.guest import Guest
from ccinit.agent.log_pace import keep_pace
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.evidence import collect_evidence
from ccinit.formats.evidence.log_key import encode_log_evidence
from ccinit.formats.sealed_log import BootId, report_data
from ccinit.kernel.entropy import random_bytes

_BOOT_ID_BYTES = 16


def open_log(guest: Guest, configured: Configured) -> bytes:
    """Begin the sealed stream as its owner wants it; return the report data that binds its key.

    Raises:
        FormatError: `seal.owner_key`.
    """
    log, capacity = configured.config.log, configured.config.limits.log_ring_bytes
    guest.log.arrange(capacity=capacity, batch_bytes=log.batch_bytes if log.batch_ms else 0)
    boot_id = BootId(random_bytes(_BOOT_ID_BYTES))
    public_key = guest.log.open(log.public_key, boot_id)
    guest.loop.start(keep_pace(guest.log, log), "log pace")
    return report_data(boot_id, public_key)


async def bind_log(guest: Guest, configured: Configured, binding: bytes) -> None:
    """Bind the log's key by evidence that does not go through the KBS.

    Args:
        guest: whose log it is.
        configured: on what.
        binding: what `open_log` returned.

    Raises:
        CcinitError: the platform made no evidence.
    """
    evidence = await collect_evidence(guest, configured, binding)
    guest.log.bind(encode_log_evidence(configured.platform.tee, evidence))
