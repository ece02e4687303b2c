"""What the host is told of a phase that failed."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.figures import Figures
from ccinit.agent.state import BootState
from ccinit.errors import ConfigError, PeerError
from ccinit.formats.host_rpc import Code
from ccinit.init import sequence
from ccinit.init.sequence import PhaseError, Row, run_phase
from ccinit.kernel.event_loop import EventLoop

if TYPE_CHECKING:
    from ccinit.agent.guest import EarlyGuest


def fail_in(row: Row, error: Exception) -> PhaseError:
    """Run a phase that raises `error`; return how it ended."""
    guest = SimpleNamespace(
        state=BootState(),
        log=SimpleNamespace(public_event=lambda *_: True),
        service=SimpleNamespace(figures=Figures()),
        event=lambda _: None,
    )

    async def body() -> None:
        raise error

    with pytest.raises(PhaseError) as caught:
        EventLoop().run(run_phase(cast("EarlyGuest", guest), row, body()))
    return caught.value


@pytest.mark.parametrize(
    ("row", "error", "code", "reason"),
    [
        (sequence.UNLOCK, ConfigError("disk.size", "0 bytes"), Code.STORAGE, "disk.size"),
        (sequence.UNLOCK, OSError(28, "/dev/vda of tenant"), Code.STORAGE, "kernel.call"),
        (sequence.MOUNT, FileNotFoundError(2, "/run"), Code.BOOT, "kernel.call"),
        (sequence.ATTEST, PeerError("kbs.refused", "403"), Code.REFUSED, "kbs.refused"),
        (
            sequence.ATTEST,
            PeerError("kbs.unreachable", "no answer"),
            Code.KBS_UNREACHABLE,
            "kbs.unreachable",
        ),
        (sequence.PULL, PeerError("kbs.unreachable", ""), Code.IMAGE, "kbs.unreachable"),
    ],
)
def test_failure_of_a_phase_is_its_one_code(
    row: Row, error: Exception, code: Code, reason: str
) -> None:
    failure = fail_in(row, error)
    assert (failure.phase, failure.code, failure.error.reason) == (row.phase, code, reason)
    assert "tenant" not in str(failure)
