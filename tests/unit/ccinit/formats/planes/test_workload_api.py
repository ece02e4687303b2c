import hashlib
import json
from typing import Any

import pytest

from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.planes.http_request import HttpRequest, HttpRequestError
from ccinit.formats.planes.workload_api import (
    EventCall,
    EvidenceCall,
    InfoCall,
    ResourceCall,
    TokenCall,
    WorkloadCall,
    parse_call,
    report_data,
)

EVENT = {"domain": "app", "operation": "seen", "content": "it"}


def call(path: str, method: str = "GET", body: bytes = b"", **parameters: str) -> WorkloadCall:
    return parse_call(HttpRequest(method=method, path=path, parameters=parameters, body=body))


def test_each_of_cocos_paths_is_a_call() -> None:
    assert call("/cdh/resource/a/b/c") == ResourceCall(uri=ResourceUri("a", "b", "c"))
    assert call("/aa/token", token_type="kbs") == TokenCall()
    assert call("/info") == InfoCall()
    assert call("/aa/aael", "POST", json.dumps(EVENT).encode()) == EventCall(**EVENT)


def test_runtime_data_is_text_or_base64url() -> None:
    assert call("/aa/evidence", runtime_data="é") == EvidenceCall(runtime_data="é".encode())
    asked = call("/aa/evidence", runtime_data="_-8", encoding="base64")
    assert asked == EvidenceCall(runtime_data=b"\xff\xef")


@pytest.mark.parametrize(
    ("status", "reason", "path", "method", "parameters"),
    [
        (404, "workload.path", "/", "GET", {}),
        (404, "workload.path", "/info/", "GET", {}),
        (404, "workload.path", "/aa/additional-evidence", "GET", {}),
        (405, "workload.method", "/aa/token", "POST", {}),
        (405, "workload.method", "/aa/aael", "GET", {}),
        (405, "workload.method", "/cdh/resource/a/b/c", "HEAD", {}),
        (400, "workload.resource", "/cdh/resource/", "GET", {}),
        (400, "workload.resource", "/cdh/resource/a/b", "GET", {}),
        (400, "workload.resource", "/cdh/resource/a/b/%63", "GET", {}),
        (400, "workload.parameters", "/cdh/resource/a/b/c", "GET", {"plugin": "x"}),
        (400, "workload.token_type", "/aa/token", "GET", {}),
        (400, "workload.token_type", "/aa/token", "GET", {"token_type": "coco_as"}),
        (400, "workload.runtime_data", "/aa/evidence", "GET", {}),
        (400, "workload.encoding", "/aa/evidence", "GET", {"runtime_data": "", "encoding": "hex"}),
        (
            400,
            "workload.runtime_data",
            "/aa/evidence",
            "GET",
            {"runtime_data": "_-9", "encoding": "base64"},
        ),
    ],
)
def test_other_requests_are_refused(
    status: int, reason: str, path: str, method: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(HttpRequestError) as caught:
        call(path, method, **parameters)
    assert (caught.value.status, caught.value.reason) == (status, reason)


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("workload.event.json", b"{"),
        ("workload.event.members", json.dumps(EVENT | {"more": 1}).encode()),
        ("workload.event.domain", json.dumps(EVENT | {"domain": 1}).encode()),
        ("workload.event.length", b" " * 4097),
    ],
)
def test_event_of_another_form_is_a_bad_request(reason: str, body: bytes) -> None:
    with pytest.raises(HttpRequestError) as caught:
        call("/aa/aael", "POST", body)
    assert (caught.value.status, caught.value.reason) == (400, reason)


def test_report_data_are_the_containers_alone_and_never_the_callers_bytes() -> None:
    expected = hashlib.sha512(b"ccinit/workload/v1\0web\0data").digest()
    assert report_data("web", b"data") == expected
    others = {report_data(name, data) for name in ("we", "web") for data in (b"", b"b\0data", b"d")}
    assert expected not in others
    assert len(others) == 6
    assert report_data("web", expected) != expected
