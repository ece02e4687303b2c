"""The start of the sealed log: its key, its intervals, and the evidence that binds it to the guest.

The key is bound in the first phase in which the platform can do so (`binding_phase`).
"""

from ccinit.agent.guest import Guest
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.evidence import collect_evidence
from ccinit.formats.evidence.log_key import encode_log_evidence
from ccinit.formats.evidence.tee import (
    Tee,
    evidence_needs_network,
    evidence_needs_request,
    is_judged_at_launch,
)
from ccinit.formats.initdata.guest_config import LogConfig
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.sealed_log import BOOT_ID_BYTES, BootId
from ccinit.kernel.entropy import random_bytes
from ccinit.kernel.event_loop import sleep
from ccinit.seal.log import SealedLog


def open_log(guest: Guest, configured: Configured) -> None:
    """Begin the sealed stream as configured.

    Raises:
        FormatError: `seal.owner_key`.
        LimitExceededError: `seal.capacity`.
    """
    log, capacity = configured.config.log, configured.config.limits.log_ring_bytes
    guest.log.arrange(capacity=capacity, batch_bytes=log.batch_bytes if log.batch_ms else 0)
    guest.log.open(log.public_key, BootId(random_bytes(BOOT_ID_BYTES)))
    guest.loop.start(_release_regularly(guest.log, log), "log pace")


async def _release_regularly(log: SealedLog, config: LogConfig) -> None:
    """At fixed intervals, show the host a batch or else sign the log, until cancelled.

    A batch that had to be padded ends with a signature, so batches are heartbeats, too.
    """
    while config.batch_ms:
        await sleep(config.batch_ms / 1000)
        log.release_batch()
    while config.heartbeat_seconds:
        await sleep(config.heartbeat_seconds)
        log.sign()


def binding_phase(tee: Tee) -> Phase:
    """Return the phase in which a platform can bind the log's key."""
    if evidence_needs_network(tee):
        return Phase.NET
    if evidence_needs_request(tee) or is_judged_at_launch(tee):
        return Phase.ATTEST
    return Phase.CONFIG


async def bind_log(guest: Guest, configured: Configured, now: Phase) -> None:
    """Bind the log's key by evidence that does not pass through the KBS, if `now` is the time.

    Raises:
        CcinitError: the platform delivered no evidence.
    """
    tee = configured.platform.tee
    if binding_phase(tee) is now:
        evidence = await collect_evidence(guest, configured, guest.log.binding)
        guest.log.bind(encode_log_evidence(tee, evidence))
