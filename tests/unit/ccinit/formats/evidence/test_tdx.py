"""Trustee's `tdx` evidence."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tdx import TdxEvidence, parse_tdx_evidence


def test_evidence_has_the_verifiers_json() -> None:
    evidence = TdxEvidence(quote=b"quote", event_log=b"log")
    assert evidence.to_json_value() == {"quote": "cXVvdGU=", "cc_eventlog": "bG9n"}
    assert parse_tdx_evidence(evidence.to_json_value()) == evidence
    without = TdxEvidence(quote=b"quote", event_log=None)
    assert without.to_json_value() == {"quote": "cXVvdGU=", "cc_eventlog": None}
    assert parse_tdx_evidence(without.to_json_value()) == without


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param([], "tdx_evidence.type", id="array"),
        pytest.param({"quote": "cXVvdGU="}, "tdx_evidence.members", id="no log"),
        pytest.param(
            {"quote": "cXVvdGU=", "cc_eventlog": None, "x": 1}, "tdx_evidence.members", id="more"
        ),
        pytest.param({"quote": "", "cc_eventlog": None}, "tdx_evidence.quote", id="empty"),
        pytest.param({"quote": None, "cc_eventlog": None}, "tdx_evidence.quote", id="null"),
        pytest.param({"quote": "cXVvdGU", "cc_eventlog": None}, "tdx_evidence.quote", id="cut"),
        pytest.param(
            {"quote": "A" * 4 * 5462, "cc_eventlog": None}, "tdx_evidence.quote", id="long"
        ),
        pytest.param(
            {"quote": "cXVvdGU=", "cc_eventlog": 1}, "tdx_evidence.cc_eventlog", id="number"
        ),
        pytest.param(
            {"quote": "cXVvdGU=", "cc_eventlog": "?"}, "tdx_evidence.cc_eventlog", id="no base64"
        ),
        pytest.param(
            {"quote": "cXVvdGU=", "cc_eventlog": "A" * 4 * 49153},
            "tdx_evidence.cc_eventlog",
            id="long log",
        ),
    ],
)
def test_evidence_with_one_wrong_part_is_refused(value: JsonValue, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_tdx_evidence(value)
    assert caught.value.reason == reason
