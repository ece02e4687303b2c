"""What PID 1 answers to a container, by the container's name and the manifest."""

import errno
import hashlib
import json
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.evidence import EVIDENCE_SECONDS
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.planes import workload_plane, workload_service
from ccinit.agent.planes.workload_service import HANDLERS, WorkloadService
from ccinit.agent.processes.running_child import REAP_SECONDS
from ccinit.errors import CcinitError, FormatError, LimitExceededError, PeerError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.planes.workload_api import (
    EventCall,
    EvidenceCall,
    InfoCall,
    ResourceCall,
    TokenCall,
    WorkloadCall,
)
from ccinit.formats.pod.manifest import Allow
from ccinit.formats.pod.secret import FileSecret
from ccinit.kernel.event_loop import Event, EventLoop, deadline, sleep
from ccinit.secret import Secret
from ccinit.workload.connection import REPLY_SECONDS, REQUEST_SECONDS

OWN, FOREIGN = ResourceUri("a", "b", "web"), ResourceUri("a", "b", "db")
EVENT = EventCall(domain="app", operation="seen", content="it")
ATTEST_SECONDS = 0.2


class Bench:
    """A service whose surroundings note what happens to them."""

    def __init__(self) -> None:
        self.sealed: list[str] = []
        self.sources: set[str] = set()
        self.measured: list[str] = []
        self.failure: Exception | None = None
        self.has_register = True
        uris = (OWN, FOREIGN)
        grants: dict[KbsUri, Grant] = {
            uri: Grant(secret=Secret(uri.tag.encode()), create=False) for uri in uris
        }
        secrets = [FileSecret(container=uri.tag, uri=uri, path="/f") for uri in uris]
        manifest = SimpleNamespace(secrets=secrets, allow=Allow(evidence=("web",)))
        platform = SimpleNamespace(tee=Tee.TPM)
        config = SimpleNamespace(limits=SimpleNamespace(attest_seconds=ATTEST_SECONDS))
        configured = SimpleNamespace(
            config=config, manifest=manifest, measurement=self, platform=platform
        )
        self.service = WorkloadService(
            guest=cast("Any", SimpleNamespace(event=self.event)),
            configured=cast("Any", configured),
            attested=Attested(grants=grants),
        )

    def event(self, text: str, source: str) -> None:
        self.sealed.append(text)
        self.sources.add(source)

    async def measure_for_workload(self, event: object) -> None:
        if self.failure is not None:
            raise self.failure
        self.measured.append(str(event))

    def ask(self, container: str, call: WorkloadCall) -> tuple[int, bytes]:
        return EventLoop().run(self.answer(container, call))

    async def answer(self, container: str, call: WorkloadCall) -> tuple[int, bytes]:
        answer: Any = (await self.service.answers(container)[type(call)](call)).value
        return answer.status, answer.body


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_call_has_a_handler() -> None:
    assert set(HANDLERS) == {ResourceCall, TokenCall, EvidenceCall, EventCall, InfoCall}


def test_calls_are_events_of_the_workload_and_not_the_guests_own(bench: Bench) -> None:
    """Containers call as often as they like."""
    asked = (ResourceCall(uri=OWN), ResourceCall(uri=FOREIGN), EVENT)
    bench.failure = LimitExceededError("event_log.workload", "full")
    assert [bench.ask("web", call)[0] for call in asked] == [200, 403, 400]
    assert len(bench.sealed) == len(asked)
    assert bench.sources == {"workload"}


def test_resource_of_another_container_is_refused_like_one_that_is_not_there(bench: Bench) -> None:
    assert bench.ask("web", ResourceCall(uri=OWN)) == (200, b"web")
    foreign = bench.ask("web", ResourceCall(uri=FOREIGN))
    assert foreign == bench.ask("web", ResourceCall(uri=ResourceUri("a", "b", "none")))
    assert foreign == (403, b"workload.resource\n")
    assert bench.sealed == [
        "workload: web: resource",
        *["workload: web: resource refused, workload.resource"] * 2,
    ]


@pytest.mark.parametrize("call", [TokenCall(), EvidenceCall(runtime_data=b""), EVENT])
def test_container_that_the_manifest_does_not_name_is_refused(
    bench: Bench, call: WorkloadCall
) -> None:
    assert bench.ask("db", call) == (403, b"workload.allow\n")
    assert bench.measured == []


def test_evidence_is_over_the_containers_name_and_never_over_its_bytes_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[bytes] = []

    async def collect(_guest: object, _configured: object, report_data: bytes) -> bytes:
        expected.append(report_data)
        return b"{}"

    monkeypatch.setattr(workload_service, "collect_evidence", collect)
    assert bench.ask("web", EvidenceCall(runtime_data=b"nonce")) == (200, b"{}")
    assert expected == [hashlib.sha512(b"ccinit/workload/v1\0web\0nonce").digest()]


def test_token_comes_without_the_sessions_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def request(_guest: object, _configured: object) -> str:
        return "a.b.c"

    monkeypatch.setattr(workload_service, "request_token", request)
    assert bench.ask("web", TokenCall()) == (200, b'{"token":"a.b.c"}')


def test_evidence_does_not_wait_for_a_token_that_the_kbs_does_not_give(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def request(_guest: object, _configured: object) -> str:
        await Event().wait()
        raise AssertionError

    async def collect(*_: object) -> bytes:
        return b"{}"

    monkeypatch.setattr(workload_service, "request_token", request)
    monkeypatch.setattr(workload_service, "collect_evidence", collect)
    loop = EventLoop()

    async def main() -> None:
        waiting = loop.start(bench.answer("web", TokenCall()), "token")
        await sleep(0)
        call = EvidenceCall(runtime_data=b"nonce")
        assert await bench.answer("web", call) == (200, b"{}")
        await waiting.stop()

    loop.run(main())


@pytest.mark.parametrize(
    ("call", "source"),
    [(TokenCall(), "request_token"), (EvidenceCall(runtime_data=b"nonce"), "collect_evidence")],
)
def test_call_that_waits_for_more_than_one_other_is_told_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: WorkloadCall, source: str
) -> None:
    """Its connection would else end before its turn, without an answer."""

    async def never(*_arguments: object) -> str:
        await Event().wait()
        raise AssertionError

    async def at_once(*_arguments: object) -> Any:
        return b"" if source == "collect_evidence" else ""

    monkeypatch.setattr(workload_service, "_TURN_SPARE_SECONDS", 0)
    monkeypatch.setattr(workload_service, "EVIDENCE_SECONDS", ATTEST_SECONDS)
    loop = EventLoop()

    async def main() -> None:
        monkeypatch.setattr(workload_service, source, never)
        first = loop.start(bench.answer("web", call), "first")
        await sleep(0)
        async with deadline(30, "test.deadline"):
            assert await bench.answer("web", call) == (503, b"workload.turn\n")
        await first.stop()
        monkeypatch.setattr(workload_service, source, at_once)
        status, _ = await bench.answer("web", call)
        assert status == 200

    loop.run(main())


@pytest.mark.parametrize(
    ("call", "source"),
    [(TokenCall(), "request_token"), (EvidenceCall(runtime_data=b"nonce"), "collect_evidence")],
)
def test_container_is_not_blamed_for_what_others_have_malformed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: WorkloadCall, source: str
) -> None:
    async def refuse(*_arguments: object) -> str:
        raise FormatError("rcar.json", "malformed JSON")

    monkeypatch.setattr(workload_service, source, refuse)
    assert bench.ask("web", call) == (500, b"rcar.json\n")


def test_info_names_what_this_container_may_ask_for(bench: Bench) -> None:
    features = {}
    for container in ("web", "db"):
        status, body = bench.ask(container, InfoCall())
        assert status == 200
        said = json.loads(body)
        features[container] = said.pop("feature")
        assert said == {"additional_tees": [], "tee": "tpm", "version": "ccinit/1"}
    assert features == {"web": "all", "db": "resource"}


def test_event_is_measured_under_the_callers_name(bench: Bench) -> None:
    assert bench.ask("web", EVENT) == (200, b'{"success":"true"}')
    assert bench.measured == ["workload/web/app seen it"]
    spaced = EventCall(domain="app x", operation="seen", content="it")
    assert bench.ask("web", spaced) == (400, b"aael.domain\n")
    assert len(bench.measured) == 1


def test_event_that_no_register_shows_is_told_to_be_none_to_evidence(bench: Bench) -> None:
    bench.has_register = False
    status, body = bench.ask("web", EVENT)
    said = json.loads(body)
    assert (status, said["success"]) == (200, "false")
    assert "sealed log" in said["message"]
    assert bench.measured == ["workload/web/app seen it"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (LimitExceededError("event_log.workload", "d"), 400),
        (FormatError("tpm2.truncated", "d"), 500),
        (PeerError("kbs.denied", "d"), 500),
    ],
)
def test_container_is_told_the_reason_and_the_owner_the_details(
    bench: Bench, failure: CcinitError, status: int
) -> None:
    bench.failure = failure
    assert bench.ask("web", EVENT) == (status, f"{failure.reason}\n".encode())
    assert bench.sealed == [f"workload: web: event failed, {failure}"]


def test_refusal_of_the_kernel_that_has_no_name_yet_is_this_calls_alone(bench: Bench) -> None:
    bench.failure = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
    assert bench.ask("web", EVENT) == (500, b"kernel.call\n")
    (sealed,) = bench.sealed
    assert sealed.startswith("workload: web: event failed, kernel.call: OSError at test_")
    assert sealed.endswith("(ENOBUFS)")


@pytest.mark.parametrize("attest_seconds", [1, 600])
def test_call_whose_turn_is_late_is_answered_before_its_connection_is_given_up(
    attest_seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers ask for a token while the KBS is gone: each is told so, or to come again."""
    given: list[float] = []

    class Plane:
        def __init__(self, _guest: object, _service: object, seconds: float) -> None:
            given.append(seconds)

        def serve(self, _listener: object) -> None:
            """Nothing."""

    monkeypatch.setattr(workload_plane, "WorkloadPlane", Plane)
    monkeypatch.setattr(workload_plane, "reserve_loopback6", lambda _port: None)
    monkeypatch.setattr(workload_plane, "listen_loopback", lambda _port: None)
    guest: Any = SimpleNamespace(
        loop=SimpleNamespace(start=lambda *_: SimpleNamespace(stop=None)),
        teardown=SimpleNamespace(push=lambda *_: None),
    )
    limits = SimpleNamespace(attest_seconds=attest_seconds)
    configured: Any = SimpleNamespace(config=SimpleNamespace(limits=limits))
    workload_plane.open_workload_api(guest, configured, Attested(grants={}))
    transfer = REQUEST_SECONDS + REPLY_SECONDS
    turn = workload_service._TURN_SPARE_SECONDS
    assert given[0] > 2 * (attest_seconds + REAP_SECONDS) + turn + transfer
    own_and_the_guests = 2 * (EVIDENCE_SECONDS + REAP_SECONDS)
    assert given[0] > EVIDENCE_SECONDS + turn + own_and_the_guests + transfer
