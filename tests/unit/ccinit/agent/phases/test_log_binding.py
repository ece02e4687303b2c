"""The log's size and pace are its owner's."""

from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases.log_binding import open_log
from ccinit.formats.initdata.guest_config import Limits, LogConfig
from ccinit.formats.sealed_log import HEADER_BYTES
from ccinit.kernel.event_loop import EventLoop
from ccinit.seal.log import MIN_CAPACITY, SealedLog
from guest_owner.log_key import LogKey


@pytest.mark.parametrize(
    ("pace", "kept"),
    [
        pytest.param({"heartbeat_seconds": 7}, ["sleep 7", "sign"], id="heartbeat"),
        pytest.param({"heartbeat_seconds": 0}, [], id="none"),
        pytest.param({"batch_ms": 250}, ["sleep 0.25", "release_batch"], id="batches"),
    ],
)
def test_log_has_the_size_and_the_pace_that_its_owner_wants(
    pace: dict[str, int], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SealedLog()
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
    assert log.ring.capacity == 2 * MIN_CAPACITY
    assert (log.ring.waiting(HEADER_BYTES), log.ring.waiting(0)) == (False, True)
    for name in ("sign", "release_batch"):
        monkeypatch.setattr(log, name, lambda name=name: done.append(name))
    (one,) = paces
    try:
        EventLoop().run(one)
    except InterruptedError:
        assert done[:-1] == kept
    else:
        assert done == kept
