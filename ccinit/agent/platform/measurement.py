"""Runtime measurement: what the guest does is logged and measured before it happens.

Image pulls and first starts of containers are events of CoCo's event log. They are collected, and
one child measures them all before the first container that they name runs: a child for each event
would slow the boot noticeably. A restart by policy is not measured again, or a workload could fill
the log; restarts are in the sealed log only. Every event is in the sealed log along with the
register's value, so that the owner can replay the events. On a platform without a register (SNP,
TDX before Linux 6.16) that is all, and the log says so.

Evidence goes out only with a log that replays to the register. A measurement that failed or was
interrupted stays pending until the next measurement or the next evidence completes it; if that
fails, no evidence is made. If somebody else has extended the register, the guest ends, whoever
asked.

A host that sees the digests on their way to a vTPM learns nothing: the texts derive from the
manifest, which the host itself delivered.
"""

import os
from collections.abc import Mapping

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.measurement import ExtendReply, ExtendRequest
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Node, Platform
from ccinit.errors import ChildError, LimitExceededError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.planes.workload_api import EVENT_DOMAIN_PREFIX
from ccinit.formats.tcg.aael import COCO_DOMAIN, GUEST_DOMAIN, OPEN_DEBUG, AaelEvent
from ccinit.formats.tcg.event_log import replay
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import open_path
from ccinit.measure.event_log import EventLog, Extension
from ccinit.measure.register import DEBUG_REGISTERS, EVENT_REGISTERS
from ccinit.values import frozen

_SECONDS = 60.0
MAX_WORKLOAD_BYTES = 16 * 1024
"""For the events of all workloads together, so that the guest's own always have room."""
_RECORD_BYTES = 128  # upper bound of what a record adds to its text


def image_pulled(reference: str, manifest: Digest) -> AaelEvent:
    """An image is in the guest and verified; the event is CoCo's."""
    return _event(COCO_DOMAIN, "PullImage", {"digest": str(manifest), "image": reference})


def container_starts(name: str, manifest: Digest) -> AaelEvent:
    """A container is about to run for the first time."""
    return _event(GUEST_DOMAIN, "StartContainer", {"container": name, "image": str(manifest)})


def debug_opens(grant: DebugGrant) -> AaelEvent:
    """The guest is about to be opened for debugging, by this grant of the owner's KBS."""
    content = {
        "evidence_key": grant.evidence_key.hex(),
        "expires_s": str(grant.expires_s),
        "keep_pod": "true" if grant.keep_pod else "false",
        "tools_root": grant.tools_root.hex(),
    }
    return _event(GUEST_DOMAIN, OPEN_DEBUG, content)


def workload_event(container: str, domain: str, operation: str, content: str) -> AaelEvent:
    """An event that a container reports; its domain names that container and cannot be forged.

    Raises:
        FormatError, LimitExceededError: `aael.…`.
    """
    inner = AaelEvent(domain=domain, operation=operation, content=content)
    outer = f"{EVENT_DOMAIN_PREFIX}/{container}/{inner.domain}"
    return AaelEvent(domain=outer, operation=operation, content=content)


def _event(domain: str, operation: str, content: Mapping[str, str]) -> AaelEvent:
    text = canonical_json(content).decode("ascii")
    return AaelEvent(domain=domain, operation=operation, content=text)


@frozen
class _Register:
    """The event log's register, its device, and the log that replays to it."""

    node: Node
    name: str
    log: EventLog


class RuntimeMeasurement:
    """The event log of this boot, and access to its register."""

    def __init__(self, guest: Guest, platform: Platform) -> None:
        self._guest = guest
        self._tee = platform.tee
        self._noted: list[AaelEvent] = []
        self._workload_bytes = 0
        self._register: _Register | None = None
        if platform.register is not None:
            register = EVENT_REGISTERS[platform.tee]
            log = EventLog(register.number, register.algorithm)
            self._register = _Register(node=platform.register, name=register.name, log=log)

    async def records(self) -> bytes:
        """Return the records measured so far, for evidence; empty if there is no register.

        They replay to the register: a measurement whose child was late or whose caller went away is
        completed first. The caller holds `Guest.evidence_lock`.

        Raises:
            CcinitError: that failed; there must be no evidence now.
        """
        register = self._register
        if register is None:
            return b""
        if register.log.is_pending:
            self._guest.event(f"events for {register.name} are pending, and finished now")
            await self._measure_or_end(())
        return register.log.records

    def note(self, event: AaelEvent) -> None:
        """Keep an event for the next `measure`."""
        self._noted.append(event)

    async def measure(self) -> None:
        """Measure the noted events.

        Raises:
            CcinitError: that failed; what the events announce must not happen, and the waiting
                phase fails.
        """
        async with self._guest.evidence_lock:
            events, self._noted = tuple(self._noted), []
            await self._measure(events)

    async def measure_for_workload(self, event: AaelEvent) -> None:
        """Measure an event of a container.

        Raises:
            LimitExceededError: `event_log.workload`, containers have no more room.
            CcinitError: it could not be measured.
        """
        size = len(str(event)) + _RECORD_BYTES
        if self._workload_bytes + size > MAX_WORKLOAD_BYTES:
            raise LimitExceededError("event_log.workload", f"at most {MAX_WORKLOAD_BYTES} bytes")
        self._workload_bytes += size
        async with self._guest.evidence_lock:
            await self._measure_or_end((event,))

    @property
    def has_register(self) -> bool:
        """Whether there is a register, through which a verifier can check the events."""
        return self._register is not None

    async def measure_debug(self, event: AaelEvent) -> None:
        """Measure that debug opens, into the register reserved for that if the platform has one.

        Raises:
            CcinitError: it could not be measured; debug must not open.
        """
        boundary = DEBUG_REGISTERS.get(self._tee)
        async with self._guest.evidence_lock:
            if self._register is None or boundary is None:
                await self._measure_or_end((event,))
                return
            before = bytes(boundary.algorithm.digest_bytes)  # zero: debug opens only once
            extension = Extension(before=before, digests=(event.digest(boundary.algorithm),))
            self._guest.event(f"event for {boundary.name}: {event}")
            value = await self._extend(self._register.node, extension, boundary=True)
            if value != replay(extension.digests, boundary.algorithm, before):
                raise VerificationError("event_log.register", f"{boundary.name}: {value.hex()}")
            self._guest.event(f"{boundary.name} holds {value.hex()}")

    async def _measure_or_end(self, events: tuple[AaelEvent, ...]) -> None:
        """Measure for a caller that survives errors; a wrong register value still ends the guest.

        A wrong value is final: this log will never replay to the register again.
        """
        try:
            await self._measure(events)
        except VerificationError as error:
            self._guest.give_up(error, Code.INTERNAL)
            raise

    async def _measure(self, events: tuple[AaelEvent, ...]) -> None:
        register = self._register
        if register is None:
            for event in events:
                self._guest.event(f"event, no register to measure it into: {event}")
            return
        extension = register.log.announce(events)
        for event in events:
            self._guest.event(f"event for {register.name}: {event}")
        value = await self._extend(register.node, extension)
        register.log.settle(value)
        self._guest.event(f"{register.name} holds {value.hex()}")

    async def _extend(self, node: Node, extension: Extension, *, boundary: bool = False) -> bytes:
        """Have a child extend the register; if it dies, a second child continues."""
        request = ExtendRequest(
            tee=self._tee,
            before=extension.before,
            digests=extension.digests,
            boundary=boundary,
        )
        try:
            return await self._run_child(node, request)
        except ChildError:
            return await self._run_child(node, request)

    async def _run_child(self, node: Node, request: ExtendRequest) -> bytes:
        """Give each child a device that nobody else has used.

        An open device keeps what its last user left: a reply that nobody has read, for which the
        kernel refuses the next command, and O_NONBLOCK.
        """
        with Descriptor(open_path(node.path, os.O_RDWR)) as device:
            reply = await self._guest.children.run(
                Role.EXTEND, request, ExtendReply, seconds=_SECONDS, fds={node.name: device}
            )
        return reply.value
