"""When the sealed log's key is bound: as soon as the platform can make evidence."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases import configuration, log_binding, network
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import StartBy
from ccinit.init import phases
from ccinit.kernel import entropy, vsock
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.priority import ORDINARY

BINDING = b"report data"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; nothing of it is."""
    done: list[str] = []

    def noting(name: str) -> Callable[..., Awaitable[None]]:
        async def step(*arguments: object) -> None:
            done.append(name)
            if name == "bind":
                assert arguments[2] == BINDING

        return step

    def open_log(*_arguments: object) -> bytes:
        done.append("open")
        return BINDING

    monkeypatch.setattr(log_binding, "open_log", open_log)
    monkeypatch.setattr(log_binding, "bind_log", noting("bind"))
    monkeypatch.setattr(entropy, "wait_for_entropy", noting("entropy"))
    monkeypatch.setattr(network, "connect", noting("connect"))
    return done


@pytest.mark.parametrize(
    ("tee", "expected"),
    [
        *((tee, ["entropy", "open", "bind", "connect"]) for tee in (Tee.TPM, Tee.SNP, Tee.TDX)),
        (Tee.CCA, ["entropy", "open", "bind", "connect"]),
        (Tee.SE, ["entropy", "open", "connect"]),
        (Tee.SEV, ["entropy", "open", "connect"]),
        (Tee.SVSM, ["entropy", "open", "connect"]),
        (Tee.AZ_SNP_VTPM, ["entropy", "open", "connect", "bind"]),
        (Tee.AZ_TDX_VTPM, ["entropy", "open", "connect", "bind"]),
    ],
)
def test_log_is_bound_before_there_is_a_network_or_with_its_help(
    tee: Tee, expected: list[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: Any = SimpleNamespace(
        platform=SimpleNamespace(tee=tee),
        config=SimpleNamespace(start_by=StartBy.GUEST),
        manifest=SimpleNamespace(allow=SimpleNamespace(metrics_to_host=False)),
    )

    async def configure(_guest: object) -> object:
        return configured

    monkeypatch.setattr(configuration, "configure", configure)
    guest: Any = SimpleNamespace(service=SimpleNamespace())

    async def boot() -> None:
        _, binding = await phases._configure(guest)
        await phases._connect(guest, configured, binding)

    EventLoop().run(boot())
    assert done == expected


def test_pid1_is_an_ordinary_process_before_it_has_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[int] = []
    monkeypatch.setattr(phases, "set_priority", given.append)
    monkeypatch.setattr(vsock, "listen", lambda _port: SimpleNamespace())
    guest: Any = SimpleNamespace(
        loop=SimpleNamespace(start=lambda coroutine, _name: coroutine.close()),
        service=SimpleNamespace(figures=SimpleNamespace()),
    )

    EventLoop().run(phases._listen(guest))
    assert given == [ORDINARY]
