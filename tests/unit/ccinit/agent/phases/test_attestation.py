"""How ATTEST asks, what it refuses before, and when the log is bound."""

import errno
from typing import Any

import pytest

from ccinit.agent.jobs.messages.kbs import (
    CounterStep,
    KbsReply,
    Released,
)
from ccinit.agent.phases import attestation, kbs_session
from ccinit.errors import CcinitError, ConfigError, KernelError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.kernel.event_loop import EventLoop
from tests.fakes.documents.guest import FULL_POD
from tests.unit.ccinit.agent.phases.attesting import Session, configured_on
from tests.unit.ccinit.agent.phases.kbs_of_replies import COUNTED_POD, COUNTER, NOW, VOLUME_KEY, Kbs


def test_boots_handshake_reads_the_counters_and_keeps_them(kbs: Kbs) -> None:
    attested = EventLoop().run(attestation.attest(kbs.guest, configured_on(pod=COUNTED_POD)))
    assert attested.counters == {COUNTER: 7}
    (request,) = kbs.requests
    assert request.counters == (CounterStep(uri=COUNTER),)
    assert (request.has_clock, request.with_token, request.debug_grant) == (False, False, None)
    assert request.devices == ("nvidia",)
    assert [uri for uri, grant in attested.grants.items() if grant.create] == [VOLUME_KEY]


def test_counter_that_nobody_keeps_is_refused_before_anything_is_read(
    kbs: Kbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: object) -> KbsReply:
        raise KernelError(errno.ENOENT, "read", "the launch's secrets")

    monkeypatch.setattr(attestation, "read_launch_secrets", read)

    def refusal(configured: Any) -> CcinitError:
        with pytest.raises(CcinitError) as refused:
            EventLoop().run(attestation.attest(kbs.guest, configured))
        return refused.value

    configured = configured_on(Tee.SEV, pod=COUNTED_POD)
    refused = refusal(configured)
    assert (type(refused), refused.reason) == (ConfigError, "attest.launch_only")
    configured.manifest = parse_pod_manifest(FULL_POD)
    assert refusal(configured).reason == "kernel.read"


@pytest.mark.parametrize(
    ("tee", "done"),
    [(Tee.SE, ['bind {"evidence":{},"tee":"se"}', "mix"]), (Tee.TPM, ["mix"])],
)
def test_log_is_bound_by_the_kbss_request_where_it_takes_one(
    tee: Tee, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(monkeypatch)

    async def reply(guest: Any, _configured: object, wanted: Any, **_options: object) -> KbsReply:
        guest.verifiers_request.text = b"a request"
        released = tuple(Released(uri=one.uri, data=b"x", create=False) for one in wanted)
        return KbsReply(released=released, policy_keys=(), date=0)

    monkeypatch.setattr(attestation, "request_resources", reply)
    monkeypatch.setattr(attestation, "set_clock", lambda *_times: None)
    monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
    EventLoop().run(attestation.attest(session.guest, configured_on(tee)))
    assert session.done[:-1] == done
    assert [asked.report_data for asked in session.made] == ([b"binding"] if done[1:] else [])


def test_log_says_when_the_boot_was_once_it_may_have_text(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(monkeypatch)

    async def reply(_guest: Any, _configured: object, wanted: Any, **_options: object) -> KbsReply:
        released = tuple(Released(uri=one.uri, data=b"x", create=False) for one in wanted)
        return KbsReply(released=released, policy_keys=(), date=NOW)

    monkeypatch.setattr(attestation, "request_resources", reply)
    monkeypatch.setattr(attestation, "set_clock", lambda *_times: session.done.append("set"))
    monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
    EventLoop().run(attestation.attest(session.guest, configured_on(Tee.TPM)))
    assert session.done == ["set", "mix", "clock: set to 2027-01-15T08:00:00Z"]


def test_only_the_boots_own_handshake_looks_at_no_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked = Session(monkeypatch), list[object]()
    session.run(Tee.TPM)
    assert session.requests[0].has_clock

    async def reply(_guest: Any, _configured: object, wanted: Any, **options: object) -> KbsReply:
        asked.append(options.get("has_clock"))
        released = tuple(Released(uri=one.uri, data=b"x", create=False) for one in wanted)
        return KbsReply(released=released, policy_keys=(), date=0)

    monkeypatch.setattr(attestation, "request_resources", reply)
    monkeypatch.setattr(kbs_session, "request_resources", reply)
    monkeypatch.setattr(attestation, "set_clock", lambda *_times: asked.append("set"))
    monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
    configured = configured_on(Tee.TPM)
    EventLoop().run(attestation.attest(session.guest, configured))
    EventLoop().run(kbs_session.fetch_grants(session.guest, configured, ()))
    EventLoop().run(kbs_session.request_token(session.guest, configured))
    assert asked == [False, "set", None, None]
