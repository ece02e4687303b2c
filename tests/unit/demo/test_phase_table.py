from ccinit.formats.planes.host_rpc import Code, Phase
from tests.chain.life import Life
from tests.chain.owner_log import Entry, OwnerLog
from tests.demo.phase_table import plan_rows


def make_log(*texts: str) -> OwnerLog:
    entries = [Entry(boottime_us=1, kind="code", source="", text=text) for text in texts]
    entries.append(Entry(boottime_us=2, kind="event", source="ccinit", text="x"))
    return OwnerLog(entries=tuple(entries), verdict={})


def test_rows_give_the_time_to_the_next_phase() -> None:
    life = Life(
        hello_ms=40_000.4,
        seen=[
            (40_100.0, Phase.CONFIG, Code.OK),
            (47_100.0, Phase.NET, Code.OK),
            (48_000.0, Phase.STOP, Code.NET),
        ],
    )
    rows = plan_rows(life, make_log("phase NET code OK"))
    assert [(row.name, row.milliseconds) for row in rows] == [
        ("BOOT", 40_000),
        ("CONFIG", 7_000),
        ("NET", 900),
    ]
    assert [row.host for row in rows] == ["hello", "phase 4, code 0x00", "phase 5, code 0x00"]
    assert rows[1].owner == "nothing: before its key is bound"
    assert rows[2].owner == "1 code, 1 event"


def test_guest_without_hello_has_no_rows() -> None:
    assert plan_rows(Life(), make_log()) == ()
