import json
from dataclasses import replace

import pytest

from ccinit.formats.planes.host_rpc import Phase
from tests.chain.owner_log import OwnerLog, parse_log
from tests.chain.show import PartyError

VERDICT = {
    "boot_id": "00",
    "records": 5,
    "signed": 5,
    "bound": True,
    "guest": "image demo (prod), pod demo",
    "mixed": True,
    "ended": True,
    "findings": [],
}


def row(kind: str, text: str, source: str = "", boottime_us: int = 1) -> dict[str, object]:
    return {"boottime_us": boottime_us, "kind": kind, "source": source, "text": text}


def make_log(*rows: dict[str, object], **verdict: object) -> OwnerLog:
    return parse_log("\n".join(json.dumps(one) for one in (*rows, {**VERDICT, **verdict})))


def test_whole_log_is_whole() -> None:
    assert make_log().is_whole


@pytest.mark.parametrize(
    "verdict",
    [
        {"bound": False},
        {"bound": None},
        {"ended": False},
        {"mixed": False},
        {"signed": 4},
        {"findings": [{"reason": "unseal.tag", "index": 3, "detail": ""}]},
    ],
)
def test_log_with_one_fault_is_not_whole(verdict: dict[str, object]) -> None:
    assert not make_log(**verdict).is_whole


def unbound(**verdict: object) -> OwnerLog:
    found = {"index": 1, "reason": "unseal.evidence", "detail": "evidence refused: initdata.digest"}
    return make_log(**{"bound": False, "findings": [found], **verdict})


def test_log_of_a_platform_that_binds_nothing_is_whole_but_for_that() -> None:
    assert unbound().is_whole_but_unbound
    assert not unbound().is_whole


@pytest.mark.parametrize(
    "verdict",
    [
        {"bound": True, "findings": []},
        {"bound": None},
        {"ended": False},
        {"mixed": False},
        {"signed": 4},
        {"findings": []},
        {"findings": [{"reason": "unseal.evidence", "index": 1, "detail": "sample.svn"}]},
        {"findings": [{"reason": "unseal.tag", "index": 3, "detail": "initdata.digest"}]},
    ],
)
def test_unbound_log_with_another_fault_is_not_whole(verdict: dict[str, object]) -> None:
    assert not unbound(**verdict).is_whole_but_unbound


def test_workload_lines_are_those_of_the_container_alone() -> None:
    log = make_log(
        row("stdout", "one", "a"),
        row("stderr", "two", "a"),
        row("stdout", "other", "b"),
        row("event", "of the guest", "a"),
    )
    assert log.workload_lines("a") == ("one", "two")


def test_figures_of_pid1_are_read_whatever_else_is_said() -> None:
    log = make_log(row("event", "pid1 pss_bytes=7 listen_pss_bytes=5 exec_to_rpc_ms=9", "ccinit"))
    assert log.pid1_figures() == {"pss_bytes": 7, "listen_pss_bytes": 5, "exec_to_rpc_ms": 9}


def test_figures_of_pid1_that_are_missing_are_the_guests_fault() -> None:
    with pytest.raises(PartyError, match="guest failed"):
        make_log(row("event", "pid1-like text")).pid1_figures()


def test_duration_of_a_phase_is_read_from_its_event() -> None:
    log = make_log(row("event", "PULL took 1234 ms"), row("stdout", "START took 5 ms"))
    assert log.took_ms(Phase.PULL) == 1234
    with pytest.raises(PartyError, match="START"):
        log.took_ms(Phase.START)


def test_entries_are_counted_in_the_phase_that_they_follow() -> None:
    log = make_log(
        row("evidence", "2712 bytes"),
        row("code", "phase NET code OK"),
        row("code", "phase ATTEST code OK"),
        row("event", "x"),
        row("event", "y"),
    )
    assert log.counts_by_phase() == {
        Phase.NET: {"code": 1},
        Phase.ATTEST: {"code": 1, "event": 2},
    }


def test_search_text_holds_sources_too() -> None:
    assert make_log(row("stdout", "line", "name")).text() == b"name line"


def test_last_words_are_the_report() -> None:
    assert make_log(row("report", "orderly stop")).report() == "orderly stop"
    assert replace(make_log()).report() == ""
