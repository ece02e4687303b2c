"""When the sealed log's key is bound: as soon as the platform can make evidence.

And what CONFIG takes from the measured documents for the host plane.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from types import SimpleNamespace
from typing import Any, Never

import pytest

from ccinit.agent import log_pump, storage_watch
from ccinit.agent.guest import EarlyGuest
from ccinit.agent.phases import (
    attestation,
    configuration,
    evidence,
    images,
    log_binding,
    network,
    pod,
    storage,
)
from ccinit.agent.planes import workload_plane
from ccinit.agent.processes.running_child import REAP_SECONDS
from ccinit.errors import DeadlineError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import StartBy
from ccinit.formats.pod.manifest import Allow, OnStorageError
from ccinit.init import phases
from ccinit.init.sequence import CONFIG, SEED_LATE
from ccinit.kernel import entropy, memory, vsock
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.kernel.kmsg import KernelRecord
from ccinit.kernel.priority import NORMAL
from ccinit.values import fields

BINDING = b"report data"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; nothing of it is."""
    done: list[str] = []

    def noting(name: str) -> Callable[..., Awaitable[None]]:
        async def step(*_arguments: object) -> None:
            done.append(name)

        return step

    async def collect_evidence(_guest: object, _configured: object, report_data: bytes) -> bytes:
        assert report_data == BINDING
        return b"{}"

    monkeypatch.setattr(log_binding, "open_log", lambda *_arguments: done.append("open"))
    monkeypatch.setattr(log_binding, "collect_evidence", collect_evidence)
    monkeypatch.setattr(entropy, "wait_for_entropy", noting("entropy"))
    monkeypatch.setattr(network, "connect", noting("connect"))
    return done


def guest_that_finds(configured: object, done: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    async def configure(_guest: object) -> object:
        done.append("configure")
        return configured

    monkeypatch.setattr(configuration, "configure", configure)
    log = SimpleNamespace(binding=BINDING, bind=lambda _evidence: done.append("bind"))
    return SimpleNamespace(service=SimpleNamespace(), log=log)


@pytest.mark.parametrize(
    ("tee", "expected"),
    [
        *((tee, ["open", "bind", "connect"]) for tee in (Tee.TPM, Tee.SNP, Tee.TDX)),
        (Tee.CCA, ["open", "bind", "connect"]),
        (Tee.SE, ["open", "connect"]),
        (Tee.SEV, ["open", "connect"]),
        (Tee.SVSM, ["open", "connect"]),
        (Tee.AZ_SNP_VTPM, ["open", "connect", "bind"]),
        (Tee.AZ_TDX_VTPM, ["open", "connect", "bind"]),
    ],
)
def test_log_is_bound_before_there_is_a_network_or_with_its_help(
    tee: Tee, expected: list[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: Any = SimpleNamespace(
        platform=SimpleNamespace(tee=tee),
        config=SimpleNamespace(start_by=StartBy.GUEST),
        manifest=SimpleNamespace(allow=Allow()),
    )
    guest = guest_that_finds(configured, done, monkeypatch)

    async def boot() -> None:
        await phases._configure(guest)
        await phases._connect(guest, configured)

    EventLoop().run(boot())
    assert done == ["entropy", "configure", *expected]


def test_whatever_hangs_in_config_is_named_before_config_is_over() -> None:
    """Even if what came before it was as slow as it may be."""
    children = 2 * configuration.SECONDS + configuration.REPORT_SECONDS + evidence.EVIDENCE_SECONDS
    reaping = 4 * REAP_SECONDS
    assert phases.SEED_SECONDS + children + reaping < CONFIG.seconds
    assert evidence._ENDORSEMENT_SECONDS + REAP_SECONDS < evidence.EVIDENCE_SECONDS


def test_r15_nothing_of_config_begins_before_the_seed(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy, "wait_for_entropy", Event().wait)  # for ever
    monkeypatch.setattr(phases, "SEED_SECONDS", 0.01)
    guest = guest_that_finds(SimpleNamespace(), done, monkeypatch)
    with pytest.raises(DeadlineError) as late:
        EventLoop().run(phases._configure(guest))
    assert (late.value.reason, done) == (SEED_LATE, [])


@pytest.mark.parametrize("start_by", StartBy)
@pytest.mark.parametrize("metrics", [False, True])
@pytest.mark.parametrize("exit_code", [False, True])
def test_host_may_what_the_measured_documents_say(
    start_by: StartBy,
    metrics: bool,  # noqa: FBT001
    exit_code: bool,  # noqa: FBT001
    done: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allow = Allow(metrics_to_host=metrics, exit_code_to_host=exit_code)
    configured = SimpleNamespace(
        platform=SimpleNamespace(tee=Tee.TPM),
        config=SimpleNamespace(start_by=start_by),
        manifest=SimpleNamespace(allow=allow),
    )
    guest = guest_that_finds(configured, done, monkeypatch)
    EventLoop().run(phases._configure(guest))
    service = guest.service
    assert service.may_start is (start_by is StartBy.HOST)
    assert (service.may_measure, service.may_tell_exit) == (metrics, exit_code)


def test_pid1_is_an_ordinary_process_in_no_hurry_before_it_has_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[object] = []
    monkeypatch.setattr(phases, "set_priority", given.append)
    monkeypatch.setattr(phases, "expedite_grace_periods", lambda *, on: given.append(on))
    monkeypatch.setattr(vsock, "listen", lambda _port: SimpleNamespace())
    guest: Any = SimpleNamespace(
        loop=SimpleNamespace(start=lambda coroutine, _name: coroutine.close()),
        service=SimpleNamespace(),
        figures=SimpleNamespace(),
    )

    EventLoop().run(phases._listen(guest))
    assert given == [NORMAL, False]


def test_memory_that_cannot_be_given_back_fails_neither_attest_nor_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Say because PID 1 has no descriptor left for its list of mappings."""

    def refuse(**_: object) -> Never:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def succeed(*_: object) -> str:
        return "done"

    trims: list[None] = []
    monkeypatch.setattr(memory, "trim_heap", lambda: trims.append(None))
    monkeypatch.setattr(memory, "page_out_code", refuse)
    monkeypatch.setattr(images, "prepare_first", lambda *_: nullcontext("children"))
    monkeypatch.setattr(attestation, "attest", succeed)
    monkeypatch.setattr(log_pump, "LogPump", lambda _guest: SimpleNamespace(run=lambda: None))
    monkeypatch.setattr(workload_plane, "open_workload_api", lambda *_: None)
    monkeypatch.setattr(pod, "start", succeed)
    events: list[str] = []
    guest: Any = SimpleNamespace(event=events.append, loop=SimpleNamespace(start=lambda *_: None))
    configured: Any = SimpleNamespace(config=SimpleNamespace(owner=None))
    none: Any = None

    async def boot() -> tuple[object, object]:
        async with AsyncExitStack() as ahead:
            attested, _, _ = await phases._attest(guest, configured, ahead)
            started = await phases._start(guest, configured, attested, none, none, none)
        return attested, started

    assert EventLoop().run(boot()) == ("done", "done")
    assert len(events) == len(trims) == 2
    assert all("EMFILE" in event for event in events)


class FakeKernelLog:
    """Has one record for each line of `lines`."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._count = 0

    def read(self) -> KernelRecord | None:
        if self._count == len(self.lines):
            return None
        self._count += 1
        text = self.lines[self._count - 1]
        return KernelRecord(
            priority=3, sequence=self._count, boottime_us=self._count, text=text, dropped=0
        )

    async def next(self) -> KernelRecord:
        while (record := self.read()) is None:
            await sleep(0)
        return record

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("is_pump_late", [False, True])
def test_r47_write_that_is_lost_while_volumes_are_opened_is_a_fault(
    is_pump_late: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if PID 1 waits in the kernel until UNLOCK is over; a block of another key is none."""
    foreign = b"device-mapper: crypt: dm-90: INTEGRITY AEAD ERROR, sector 0"
    lost = b"Buffer I/O error on dev dm-91, logical block 1, lost async page write"
    changed = b"device-mapper: crypt: dm-92: INTEGRITY AEAD ERROR, sector 8"
    log, events, failures = FakeKernelLog(), list[str](), list[str]()
    monkeypatch.setattr(log_pump, "KernelLog", lambda: log)
    monkeypatch.setattr(storage_watch, "list_mapping_names", dict)

    async def unlock(*_: object) -> str:
        log.lines += [foreign, lost]
        if not is_pump_late:
            await sleep(0.05)
            assert len(failures) == 1
        return "unlocked"

    monkeypatch.setattr(storage, "unlock", unlock)
    guest: Any = SimpleNamespace(
        event=events.append,
        give_up=lambda error, _code: failures.append(error.reason),
        log=SimpleNamespace(append=lambda *_: None),
    )
    configured: Any = SimpleNamespace(
        manifest=SimpleNamespace(volumes=(), on_storage_error=OnStorageError.STOP)
    )
    attested: Any = None
    log.lines += [foreign, lost]  # before UNLOCK no disk is open
    loop = EventLoop()

    async def boot() -> object:
        pump = log_pump.LogPump(guest)
        pumping = loop.start(pump.run(), "kernel log")
        unlocked = await phases._unlock(guest, configured, attested, pump)
        log.lines.append(changed)
        await sleep(0.05)
        await pumping.stop()
        return unlocked

    assert loop.run(boot()) == "unlocked"
    assert failures == ["disk.lost_write", "disk.integrity"]
    assert [event.split(": ")[1] for event in events] == ["dm-91", "dm-92"]


def test_guest_keeps_all_that_the_early_guest_had() -> None:
    parts: dict[str, Any] = {one.name: object() for one in fields(EarlyGuest)}
    children: Any = object()
    complete = EarlyGuest(**parts).with_children(children)
    assert {name: getattr(complete, name) for name in parts} == parts
