import pytest

from ccinit.formats.planes.host_rpc import Code, Phase
from tests.bench.measurement import BenchError
from tests.bench.rows.boot import HELLO, WHOLE, add_unseen, split_phases
from tests.chain.life import Life
from tests.chain.owner_log import Entry, OwnerLog
from tests.chain.show import PartyError


def test_split_phases_gives_each_phase_its_time_and_random_to_net() -> None:
    life = Life(
        hello_ms=100.0,
        seen=[
            (110.0, Phase.CONFIG, Code.OK),
            (150.0, Phase.NET, Code.OK),
            (170.0, Phase.RANDOM, Code.OK),
            (175.0, Phase.ATTEST, Code.OK),
            (300.0, Phase.PULL, Code.OK),
            (400.0, Phase.RUN, Code.OK),
            (500.0, Phase.STOP, Code.OK),
        ],
    )
    assert split_phases(life) == {
        "CONFIG": 50.0,
        "NET": 25.0,
        "ATTEST": 125.0,
        "PULL": 100.0,
        HELLO: 100.0,
        WHOLE: 400.0,
    }


def test_split_phases_takes_the_first_sight_of_a_phase() -> None:
    life = Life(
        hello_ms=1.0,
        seen=[
            (2.0, Phase.CONFIG, Code.OK),
            (5.0, Phase.RUN, Code.OK),
            (9.0, Phase.RUN, Code.WORKLOAD_EXIT),
        ],
    )
    assert split_phases(life)[WHOLE] == 5.0


def test_split_phases_of_a_guest_that_did_not_run_refuses() -> None:
    life = Life(hello_ms=1.0, seen=[(2.0, Phase.PULL, Code.OK), (3.0, Phase.PULL, Code.IMAGE)])
    with pytest.raises(BenchError, match="PULL with code IMAGE"):
        split_phases(life)


def log_of(*texts: str) -> OwnerLog:
    entries = (Entry(boottime_us=0, kind="event", source="guest", text=text) for text in texts)
    return OwnerLog(entries=tuple(entries), verdict={})


def test_phase_that_the_host_has_missed_has_the_guests_own_figure() -> None:
    seen = {"CONFIG": 25.0, "NET": 26.0, "ATTEST": 27.0, "UNLOCK": 28.0, "PULL": 29.0, HELLO: 100.0}
    log = log_of("UNLOCK took 7 ms", "PULL took 7 ms", "START took 8 ms")  # none before ATTEST
    assert add_unseen(seen, log) == {**seen, "START": 8.0}
    assert add_unseen({**seen, "START": 30.0}, log_of()) == {**seen, "START": 30.0}


def test_phase_that_nobody_has_timed_is_not_measured() -> None:
    with pytest.raises(PartyError):
        add_unseen({"NET": 25.0}, log_of("NET took 7 ms"))
