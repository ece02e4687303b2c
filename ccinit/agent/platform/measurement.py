"""Runtime measurement: what the guest does goes into its event log before it is done.

Image pulls and first starts of containers, as events of CoCo's event log. They are collected and
measured in one go, by one child, before the first container that they speak of runs: a child for
each event would be felt in the boot. A container that is started again by its restart policy is not
measured again, or a workload could fill the log; such starts are in the sealed log only. Every
event is in the sealed log, with the register's value, so that the owner can replay them; where the
platform has no register (SNP, TDX before Linux 6.16) that is all, and the log says so.

Evidence goes out only with a log that replays to the register. A measurement that failed or was
left half-way stays pending, and the next one, or the next evidence, finishes it first; evidence
that cannot is not made. A register that somebody else extended ends the guest, whoever asked.

A host that sees the digests on their way to a vTPM learns nothing: the texts are made of the
manifest, which it delivered itself.
"""

import os
from collections.abc import Mapping

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.measurement import ExtendReply, ExtendRequest
from ccinit.agent.platform.devices import open_device
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
from ccinit.measure.event_log import EventLog, Extension
from ccinit.measure.register import DEBUG_REGISTERS, EVENT_REGISTERS
from ccinit.values import frozen

_SECONDS = 60.0
MAX_WORKLOAD_BYTES = 16 * 1024
"""Of all events of workloads together, so that the guest's own always have room."""
_RECORD_BYTES = 128  # more than what a record has beside its text


def image_pulled(reference: str, manifest: Digest) -> AaelEvent:
    """An image is in the guest and verified; the event is CoCo's."""
    return _event(COCO_DOMAIN, "PullImage", {"digest": str(manifest), "image": reference})


def container_starts(name: str, manifest: Digest) -> AaelEvent:
    """A container is about to run for the first time."""
    return _event(GUEST_DOMAIN, "StartContainer", {"container": name, "image": str(manifest)})


def debug_opens(grant: DebugGrant) -> AaelEvent:
    """The guest is about to be opened to whoever its owner's KBS has granted that to."""
    content = {
        "evidence_key": grant.evidence_key.hex(),
        "expires_s": str(grant.expires_s),
        "keep_pod": "true" if grant.keep_pod else "false",
        "tools_root": grant.tools_root.hex(),
    }
    return _event(GUEST_DOMAIN, OPEN_DEBUG, content)


def workload_event(container: str, domain: str, operation: str, content: str) -> AaelEvent:
    """Something that a container says; its domain shows which one, and cannot be another's.

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
class _Proof:
    """A register, the device behind which it is, and the log that replays to it."""

    node: Node
    name: str
    log: EventLog


class RuntimeMeasurement:
    """The event log of this boot, and the way to its register."""

    def __init__(self, guest: Guest, platform: Platform) -> None:
        self._guest = guest
        self._tee = platform.tee
        self._noted: list[AaelEvent] = []
        self._workload_bytes = 0
        self._proof: _Proof | None = None
        if platform.register is not None:
            register = EVENT_REGISTERS[platform.tee]
            log = EventLog(register.number, register.algorithm)
            self._proof = _Proof(node=platform.register, name=register.name, log=log)

    async def records(self) -> bytes:
        """Return what is measured so far, for the evidence; empty if there is no register.

        They replay to the register: what a child that was late, or whose caller went away, may have
        extended it with is finished first. The caller holds the guest's lock for evidence.

        Raises:
            CcinitError: it could not be; there must be no evidence now.
        """
        proof = self._proof
        if proof is None:
            return b""
        if proof.log.is_pending:
            self._guest.event(f"events for {proof.name} are pending, and finished now")
            await self._measure_or_end(())
        return proof.log.records

    def note(self, event: AaelEvent) -> None:
        """Keep an event for the next `measure`."""
        self._noted.append(event)

    async def measure(self) -> None:
        """Measure what was noted.

        Raises:
            CcinitError: it could not be; the thing that is about to happen must not happen, and the
                phase that waits for it fails.
        """
        events, self._noted = tuple(self._noted), []
        async with self._guest.evidence_lock:
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
    def is_proven(self) -> bool:
        """Whether there is a register, so that a verifier sees what is measured."""
        return self._proof is not None

    async def measure_debug(self, event: AaelEvent) -> None:
        """Measure that debug opens, into the register that is for that alone, where there is one.

        Raises:
            CcinitError: it could not be measured; debug must not open.
        """
        boundary = DEBUG_REGISTERS.get(self._tee)
        async with self._guest.evidence_lock:
            if self._proof is None or boundary is None:
                await self._measure_or_end((event,))
                return
            before = bytes(boundary.algorithm.digest_bytes)  # once in the life of a boot
            extension = Extension(before=before, digests=(event.digest(boundary.algorithm),))
            self._guest.event(f"event for {boundary.name}: {event}")
            value = await self._extend(self._proof.node, extension, boundary=True)
            if value != replay(extension.digests, boundary.algorithm, before):
                raise VerificationError("event_log.register", f"{boundary.name}: {value.hex()}")
            self._guest.event(f"{boundary.name} holds {value.hex()}")

    async def _measure_or_end(self, events: tuple[AaelEvent, ...]) -> None:
        """Measure for whoever outlives a refusal; one by the register ends the guest all the same.

        For it is final: this log will never replay to the register again.
        """
        try:
            await self._measure(events)
        except VerificationError as error:
            self._guest.give_up(error, Code.INTERNAL)
            raise

    async def _measure(self, events: tuple[AaelEvent, ...]) -> None:
        proof = self._proof
        if proof is None:
            for event in events:
                self._guest.event(f"event, no register to measure it into: {event}")
            return
        extension = proof.log.announce(events)
        for event in events:
            self._guest.event(f"event for {proof.name}: {event}")
        value = await self._extend(proof.node, extension)
        proof.log.settle(value)
        self._guest.event(f"{proof.name} holds {value.hex()}")

    async def _extend(self, node: Node, extension: Extension, *, boundary: bool = False) -> bytes:
        """Have a child extend the register; one that died is followed by one that goes on."""
        request = ExtendRequest(
            tee=self._tee,
            before=extension.before,
            digests=extension.digests,
            boundary=boundary,
        )
        with open_device(node.path, os.O_RDWR) as device:
            fds = {node.name: device}
            run = self._guest.children.run
            try:
                reply = await run(Role.EXTEND, request, ExtendReply, seconds=_SECONDS, fds=fds)
            except ChildError:
                reply = await run(Role.EXTEND, request, ExtendReply, seconds=_SECONDS, fds=fds)
        return reply.value
