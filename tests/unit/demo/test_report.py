import json
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import Code
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.qemu import Accelerator, EspBoot
from host_runtime.programs.tools import Tools
from tests.chain.host_view import HostView
from tests.demo.attacks import Attack, Outcome, Where
from tests.demo.report import Findings, encode_report

REGISTERS = {str(index): f"{index:064x}" for index in range(24)}


def make_findings(*, complaints: tuple[str, ...] = ()) -> Findings:
    config = GuestConfig(
        tools=Tools(),
        folder=Path("guest"),
        boot=EspBoot(image=Path("esp")),
        accelerator=Accelerator.TCG,
    )
    attack = Attack(party="host a", what="a line", where=Where.STAGE0, config=config, failing={})
    outcome = Outcome(attack=attack, released=0, code=None, named=(), complaints=())
    return Findings(
        phases=(("builder: build", 12.6), ("guest: PULL", 5)),
        tee="tpm",
        group="pcr",
        predicted={index: REGISTERS[index] for index in ("4", "9", "11")},
        quoted=REGISTERS,
        image_digest="sha256:aa",
        image_bytes=1,
        pull_ms=2,
        pss_bytes=3,
        exec_to_rpc_ms=4,
        host_view=HostView(sinks={"serial": 0, "vsock": 6}),
        codes=frozenset({Code.OK}),
        tampered=(outcome,),
        complaints=complaints,
    )


def test_report_has_exactly_the_published_keys() -> None:
    report = json.loads(encode_report(make_findings()))
    assert set(report) == {
        "phases",
        "tee",
        "pcr",
        "image",
        "pid1",
        "host_view",
        "tampered",
        "ok",
    }
    assert [set(phase) for phase in report["phases"]] == [{"name", "ms"}] * 2
    assert set(report["pcr"]) == {"predicted", "quoted"}
    assert set(report["pcr"]["predicted"]) == set(report["pcr"]["quoted"]) == {"4", "9", "11"}
    assert set(report["image"]) == {"digest", "bytes", "pull_ms"}
    assert set(report["pid1"]) == {"pss_bytes", "exec_to_rpc_ms"}
    assert set(report["host_view"]) == {"sinks", "canary_hits", "codes"}
    assert set(report["tampered"][0]) == {"what", "where", "refused", "released", "code"}


def test_report_of_another_platform_has_its_own_registers() -> None:
    values = {"measurement": "ab", "host_data": "cd"}
    findings = replace(
        make_findings(), tee="snp", group="snp", predicted={"measurement": "ab"}, quoted=values
    )
    report = json.loads(encode_report(findings))
    assert report["snp"] == {"predicted": {"measurement": "ab"}, "quoted": {"measurement": "ab"}}
    assert "pcr" not in report


def test_report_holds_plain_values() -> None:
    report = json.loads(encode_report(make_findings()))
    assert report["phases"][0] == {"name": "builder: build", "ms": 13}
    assert report["host_view"] == {
        "sinks": {"serial": 0, "vsock": 6},
        "canary_hits": 0,
        "codes": [0],
    }
    assert report["tampered"] == [
        {"what": "a line", "where": "stage0", "refused": True, "released": 0, "code": None}
    ]


@pytest.mark.parametrize(("complaints", "is_ok"), [((), True), (("it leaked",), False)])
def test_report_is_ok_without_complaints_only(complaints: tuple[str, ...], is_ok: bool) -> None:  # noqa: FBT001
    assert json.loads(encode_report(make_findings(complaints=complaints)))["ok"] is is_ok
