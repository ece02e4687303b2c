"""`build/demo/report.json`: the results of a run of the demo, under stable keys."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccinit.formats.planes.host_rpc import Code
from tests.chain.host_view import HostView
from tests.demo.attacks import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that the report says.

    Attributes:
        phases: (name, milliseconds) of each step of the builder, the owner and the host, then of
            each phase of the first guest.
        group: what the audit log calls the kind of registers: `pcr`, or `snp`.
        predicted: registers in hex, by index or name, as the builder said before any boot.
        quoted: as the audit log has them of the accepted evidence.
        codes: every code that a host was told by an honest guest.
    """

    phases: Sequence[tuple[str, float]]
    tee: str
    group: str
    predicted: Mapping[str, str]
    quoted: Mapping[str, str]
    image_digest: str
    image_bytes: int
    pull_ms: int
    pss_bytes: int
    exec_to_rpc_ms: int
    host_view: HostView
    codes: frozenset[Code]
    tampered: Sequence[Outcome]
    complaints: Sequence[str]


def encode_report(findings: Findings) -> str:
    """Return the report as JSON text."""
    view = findings.host_view
    report = {
        "phases": [{"name": name, "ms": round(ms)} for name, ms in findings.phases],
        "tee": findings.tee,
        findings.group: {
            "predicted": dict(findings.predicted),
            "quoted": {index: findings.quoted[index] for index in findings.predicted},
        },
        "image": {
            "digest": findings.image_digest,
            "bytes": findings.image_bytes,
            "pull_ms": findings.pull_ms,
        },
        "pid1": {"pss_bytes": findings.pss_bytes, "exec_to_rpc_ms": findings.exec_to_rpc_ms},
        "host_view": {
            "sinks": dict(view.sinks),
            "canary_hits": len(view.hits),
            "codes": sorted(int(code) for code in findings.codes),
        },
        "tampered": [_tampered(outcome) for outcome in findings.tampered],
        "ok": not findings.complaints,
    }
    return json.dumps(report, indent=1) + "\n"


def _tampered(outcome: Outcome) -> Mapping[str, object]:
    return {
        "what": outcome.attack.what,
        "where": outcome.attack.where.value,
        "refused": outcome.refused,
        "released": outcome.released,
        "code": None if outcome.code is None else int(outcome.code),
    }


def write_report(findings: Findings, path: Path) -> None:
    """Write the report; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(encode_report(findings))
