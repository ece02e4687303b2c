"""The log's size and pace are its owner's."""

from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases.log_binding import binding_phase, open_log
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import Limits, LogConfig
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.sealed_log import HEADER_BYTES, BootId, report_data
from ccinit.kernel.event_loop import EventLoop
from ccinit.seal.log import MIN_CAPACITY, SealedLog
from guest_owner.sealed_log.key import LogKey


@pytest.mark.parametrize(
    ("pace", "kept", "batch_bytes"),
    [
        pytest.param({"heartbeat_seconds": 7}, ["sleep 7", "sign"], 0, id="heartbeat"),
        pytest.param({"heartbeat_seconds": 0, "batch_bytes": 8192}, [], 0, id="none"),
        pytest.param(
            {"batch_ms": 250, "batch_bytes": 8192},
            ["sleep 0.25", "release_batch"],
            8192,
            id="batches",
        ),
    ],
)
def test_log_has_the_size_and_the_pace_that_its_owner_wants(
    pace: dict[str, int], kept: list[str], batch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SealedLog()
    arrange, arranged = log.arrange, list[dict[str, int]]()

    def note_and_arrange(**how: int) -> None:
        arranged.append(how)
        arrange(**how)

    monkeypatch.setattr(log, "arrange", note_and_arrange)
    done: list[str] = []

    async def sleep(seconds: float) -> None:
        done.append(f"sleep {seconds}")
        if len(done) > len(kept):
            raise InterruptedError

    monkeypatch.setattr("ccinit.agent.phases.log_binding.sleep", sleep)
    paces: list[Any] = []
    guest: Any = SimpleNamespace(
        log=log, loop=SimpleNamespace(start=lambda one, _name: paces.append(one))
    )
    key = LogKey(b"o" * 32).public_bytes
    configured: Any = SimpleNamespace(
        config=SimpleNamespace(
            log=LogConfig(public_key=key, **pace), limits=Limits(log_ring_bytes=2 * MIN_CAPACITY)
        )
    )
    open_log(guest, configured)
    assert arranged == [{"capacity": 2 * MIN_CAPACITY, "batch_bytes": batch_bytes}]
    assert log.ring.capacity == 2 * MIN_CAPACITY
    assert (log.ring.is_readable(HEADER_BYTES), log.ring.is_readable(0)) == (False, True)
    for name in ("sign", "release_batch"):
        monkeypatch.setattr(log, name, lambda name=name: done.append(name))
    (one,) = paces
    try:
        EventLoop().run(one)
    except InterruptedError:
        assert done[:-1] == kept
    else:
        assert done == kept


def test_binding_is_of_this_boot_and_of_the_logs_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id, log = BootId(bytes(range(16))), SealedLog()
    monkeypatch.setattr("ccinit.agent.phases.log_binding.random_bytes", lambda _size: boot_id)
    guest: Any = SimpleNamespace(
        log=log, loop=SimpleNamespace(start=lambda pace, _name: pace.close())
    )
    key = LogKey(b"o" * 32).public_bytes
    config = SimpleNamespace(log=LogConfig(public_key=key), limits=Limits())
    configured: Any = SimpleNamespace(config=config)
    assert log.binding == b""
    open_log(guest, configured)
    assert log._stream is not None
    assert log.binding == report_data(boot_id, log._stream.public_key)


LATER = {
    Tee.AZ_SNP_VTPM: Phase.NET,
    Tee.AZ_TDX_VTPM: Phase.NET,
    Tee.SE: Phase.ATTEST,
    Tee.SVSM: Phase.ATTEST,
    Tee.SEV: Phase.ATTEST,
}


@pytest.mark.parametrize("tee", Tee)
def test_key_is_bound_before_there_is_a_network_unless_the_platform_needs_more(tee: Tee) -> None:
    assert binding_phase(tee) is LATER.get(tee, Phase.CONFIG)
