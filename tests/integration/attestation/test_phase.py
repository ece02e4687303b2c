"""ATTEST with its real children under their restrictions, against the owner's running KBS.

Natively: the children are fresh interpreters without rights, the TPM is simulated behind a socket.
What the guest does with the result (clock, log, wiping) is left out.
"""

import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccinit.agent.guest import PhaseTime
from ccinit.agent.jobs.messages.kbs import KbsReply
from ccinit.agent.phases import evidence, kbs_session
from ccinit.agent.phases.attestation import plan_resources
from ccinit.agent.phases.kbs_session import request_resources
from ccinit.agent.platform import devices
from ccinit.agent.processes.children import Children
from ccinit.attest.detect import Platform
from ccinit.errors import CcinitError, DeadlineError, KernelError, PeerError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import (
    KBS_VSOCK_PORT,
    KbsTransport,
    Limits,
)
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.secret import FileSecret
from ccinit.kernel.event_loop import EventLoop, Lock, deadline
from guest_owner.kbs.state.store import Store
from host_runtime.relay.kbs import KbsAddress, guest_path, open_unix_listener, serve
from tests.fakes.machine.failing_calls import each_failing_call
from tests.fakes.machine.interruptions import Stop, each_stop
from tests.fakes.machine.owned import owned_pids
from tests.fakes.platforms.measured_events import MeasuredEvents
from tests.fakes.platforms.tpm_device import SimulatedTpm
from tests.integration.kbs.harness import DOCUMENT, Kbs, booted_tpm, make_state, running_kbs

ROOT = Path(__file__).parents[3]
POD = "shop"
URIS = [f"kbs:///ccinit/{POD}/file-{number}" for number in range(3)]

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    state = make_state(tmp_path_factory.mktemp("owner"))
    for text, kind in (
        (f"kbs:///ccinit/{POD}/log-psk", EnvelopeKind.LOG_PSK),
        *((text, EnvelopeKind.FILE) for text in URIS),
    ):
        uri = parse_resource_uri(text)
        body = encode_envelope(Envelope(uri=uri, kind=kind, data=uri.tag.encode()))
        Store(state).write_resource(uri, body)
    with running_kbs(state) as running:
        yield running


@dataclass(kw_only=True)
class SocketTpm:
    """A TPM behind a socket pair for each child that is given one; `given` counts them."""

    tpm: SimulatedTpm = field(default_factory=lambda: SimulatedTpm(tpm=booted_tpm()))
    given: int = 0

    @contextmanager
    def open(self, _platform: object, _report_data: bytes) -> Iterator[Mapping[str, int]]:
        ours, theirs = socket.socketpair()
        self.given += 1
        threading.Thread(target=self.tpm.serve, args=(ours,), daemon=True).start()
        with theirs:
            yield {"tpm": theirs.fileno()}


@pytest.fixture
def tpm(monkeypatch: pytest.MonkeyPatch) -> SocketTpm:
    device = SocketTpm()
    for module in (evidence, devices):
        monkeypatch.setattr(module, "open_platform", device.open)
    return device


def attest(kbs: Kbs, **changes: Any) -> KbsReply:
    """Run the phase as far as the KBS goes."""
    _guest, request = attesting(kbs, **changes)
    try:
        return EventLoop().run(request())
    finally:
        assert owned_pids() == ()


def attesting(
    kbs: Kbs, *, document: bytes = DOCUMENT, **changes: Any
) -> tuple[Any, Callable[[], Coroutine[object, None, KbsReply]]]:
    """Return a guest, and its phase as far as the KBS goes."""
    secrets = tuple(
        FileSecret(container="c", uri=parse_resource_uri(uri), path="/f") for uri in URIS
    )
    manifest = SimpleNamespace(name=POD, volumes=(), images=(), registries=(), secrets=secrets)
    configured = SimpleNamespace(
        config=SimpleNamespace(kbs=kbs.config(**changes), limits=Limits(attest_seconds=30)),
        manifest=manifest,
        platform=Platform(tee=Tee.TPM),
        measurement=MeasuredEvents(),
        document=document,
    )
    children = Children(
        (sys.executable, "-m", "ccinit"),
        {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
    )
    figures = SimpleNamespace(evidence_made=0)
    guest = SimpleNamespace(
        children=children, figures=figures, evidence_lock=Lock(), phase_time=PhaseTime()
    )
    wanted = plan_resources(cast("Any", manifest))
    return guest, partial(request_resources, cast("Any", guest), cast("Any", configured), wanted)


def wanted_data() -> list[bytes]:
    return [b"log-psk", *(parse_resource_uri(uri).tag.encode() for uri in URIS)]


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_everything_that_the_manifest_names_comes_in_one_session(
    kbs: Kbs, tpm: SocketTpm, algorithm: TeeKeyAlgorithm
) -> None:
    reply = attest(kbs, tee_key_algorithm=algorithm)
    assert [released.data for released in reply.released] == wanted_data()
    assert tpm.given == 1
    assert abs(reply.date - time.time()) < 60


def test_r33_session_that_ends_amid_the_keys_takes_a_second_piece_of_evidence(
    kbs: Kbs, tpm: SocketTpm
) -> None:
    before = len(kbs.audit())

    kbs.clock.step = 100  # a session lasts 300
    try:
        reply = attest(kbs)
    finally:
        kbs.clock.step = 0
    assert [released.data for released in reply.released] == wanted_data()
    assert tpm.given > 1
    events = [record["event"] for record in kbs.audit()[before:]]
    released = [record for record in kbs.audit()[before:] if record["decision"] == "released"]
    assert len(released) == len(wanted_data())
    assert events.count("attest") == tpm.given


@pytest.fixture
def relay(kbs: Kbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[CcinitError]]:
    """The host's relay, in place of vsock; yields failures that connections are to meet first."""
    failures: list[CcinitError] = []
    path = guest_path(tmp_path / "vsock")

    async def connect_to_host(port: int, seconds: float) -> socket.socket:
        assert port == KBS_VSOCK_PORT
        assert 0 < seconds <= 60
        if failures:
            raise failures.pop(0)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        connection.setblocking(False)  # noqa: FBT003 (positional only)
        return connection

    monkeypatch.setattr(kbs_session, "connect_to_host", connect_to_host)
    with open_unix_listener(path) as listener:
        address = KbsAddress(host="127.0.0.1", port=kbs.port)
        thread = threading.Thread(target=serve, args=(listener, address))
        thread.start()
        yield failures
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def test_kbs_is_reached_through_the_hosts_relay(
    kbs: Kbs, tpm: SocketTpm, relay: list[CcinitError]
) -> None:
    # The relay is late: nothing listens, then nothing answers.
    relay += [
        KernelError(errno.ECONNRESET, "connect", "nobody"),
        DeadlineError("vsock.connect", "silence"),
    ]
    reply = attest(kbs, transport=KbsTransport.VSOCK)
    assert [released.data for released in reply.released] == wanted_data()
    assert not relay
    assert tpm.given == 1


def test_relay_is_not_used_unless_the_document_says_so(
    kbs: Kbs, tpm: SocketTpm, relay: list[CcinitError]
) -> None:
    relay.append(KernelError(errno.ECONNRESET, "connect", "nobody"))
    attest(kbs)
    assert len(relay) == 1
    assert tpm.given == 1


def test_session_that_is_stopped_or_refused_leaves_no_child_and_the_turn_free(
    kbs: Kbs, tpm: SocketTpm
) -> None:
    guest, request = attesting(kbs)

    async def stopped(stop: Stop) -> None:
        stop.verify(await stop.attempt(request()))
        assert owned_pids() == ()
        async with deadline(1, "test.lock"), guest.evidence_lock:
            pass

    for stop in each_stop():
        EventLoop().run(stopped(stop))
    for failing in each_failing_call(errno.EMFILE):
        failing.verify(failing.attempt(lambda: EventLoop().run(request())))
        assert owned_pids() == ()


def test_document_of_the_host_gets_nothing(kbs: Kbs, tpm: SocketTpm) -> None:
    attest(kbs)
    with pytest.raises(CcinitError) as refused:
        attest(kbs, document=DOCUMENT + b"\n")
    assert refused.value.reason == "kbs.attestation_error"
    assert type(refused.value) is PeerError
    assert tpm.given == 2


def test_resources_are_planned_once_each_with_the_logs_key_first() -> None:
    manifest = SimpleNamespace(name=POD, volumes=(), images=(), registries=(), secrets=())
    [wanted] = plan_resources(cast("Any", manifest))
    assert (str(wanted.uri), wanted.kind) == ("kbs:///ccinit/shop/log-psk", EnvelopeKind.LOG_PSK)
