"""What a client waits out and asks again for, and what is final at once."""

import json
from email.utils import formatdate

import pytest

from ccinit.attest.client import KbsClient
from ccinit.errors import DeadlineError, PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.kbs.release import MAX_ENCRYPTED_BYTES
from tests.fakes.kbs.http import DATE, URL, FakeKbs, Fault, answer, fail, refuse, reply
from tests.unit.ccinit.attest.guest_client import FETCH, HANDSHAKE, URI, Guest, refused_reason


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fail("net.unreachable"), id="unreachable"),
        pytest.param(fail("net.dns"), id="no name"),
        pytest.param(fail("net.resolver"), id="no resolver"),
        pytest.param(fail("net.closed"), id="reset"),
        pytest.param(fail("net.timeout"), id="silent"),
        pytest.param(fail("net.deadline"), id="slow"),
        pytest.param(answer(reply(503)), id="busy"),
        pytest.param(answer(reply(429)), id="too many"),
        pytest.param(answer(reply(500)), id="broken"),
    ],
)
@pytest.mark.parametrize(
    ("place", "paths"),
    [
        (0, ["auth", *HANDSHAKE, *FETCH]),
        (1, [*HANDSHAKE, *HANDSHAKE, *FETCH]),
        (2, [*HANDSHAKE, *FETCH, *FETCH]),
    ],
    ids=["auth", "attest", "resource"],
)
def test_r20_passing_fault_is_waited_out(
    kbs: FakeKbs, fault: Fault, place: int, paths: list[str]
) -> None:
    kbs.faults = [*[None] * place, fault]
    guest = Guest(kbs)
    assert guest.get() == b"secret a"
    assert kbs.paths == paths
    assert guest.naps == [0.375]
    assert len(kbs.keys) == len({json.dumps(key) for key in kbs.keys})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(fail("net.certificate"), "net.certificate", id="certificate"),
        pytest.param(fail("net.tls"), "net.tls", id="tls 1.2"),
        pytest.param(fail("net.truncated"), "net.truncated", id="truncated"),
        pytest.param(fail("net.body"), "net.body", id="too long"),
        pytest.param(answer(reply(300)), "kbs.redirect", id="choices"),
        pytest.param(answer(reply(302)), "kbs.redirect", id="redirect"),
        pytest.param(answer(reply(403)), "kbs.forbidden", id="403"),
        pytest.param(answer(reply(404)), "kbs.status", id="404"),
        pytest.param(answer(reply(418)), "kbs.status", id="418"),
        pytest.param(answer(refuse(401, "PolicyDeny")), "kbs.policy_deny", id="denied"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2], ids=["auth", "attest", "resource"])
def test_r32_final_fault_is_not_tried_again(
    kbs: FakeKbs, fault: Fault, reason: str, place: int
) -> None:
    kbs.faults = [*[None] * place, fault]
    guest = Guest(kbs)
    assert refused_reason(guest.get) == reason
    assert len(kbs.calls) == place + 1
    assert not guest.naps


def test_absent_resource_is_final_by_its_type_and_named(kbs: FakeKbs) -> None:
    kbs.resources.clear()
    with pytest.raises(PeerError) as refused:
        Guest(kbs).get()
    assert refused.value.reason == "kbs.plugin_internal_error"
    assert refused.value.detail.startswith(f"{URI}: status 401: ")


def test_r20_kbs_that_never_answers_is_unreachable_in_the_end(kbs: FakeKbs) -> None:
    kbs.faults = [fail("net.unreachable")] * 1000
    guest = Guest(kbs, total_seconds=120)
    with pytest.raises(DeadlineError) as ended:
        guest.get()
    assert ended.value.reason == "kbs.unreachable"
    assert 100 < guest.now < 120
    assert 8 < len(kbs.calls) < 30


def test_r20_calls_of_one_client_share_its_time(kbs: FakeKbs) -> None:
    """Else whoever waits for all of them would end it first, and know no reason."""
    guest = Guest(kbs, total_seconds=120)
    guest.get()
    guest.now += 100
    kbs.faults = [fail("net.unreachable")] * 1000
    with pytest.raises(DeadlineError) as ended:
        guest.get()
    assert ended.value.reason == "kbs.unreachable"
    assert "net.unreachable" in ended.value.detail
    assert 110 < guest.now < 120
    guest.now = 119.0
    kbs.faults = []
    guest.get()
    assert kbs.calls[-1].limits.total_seconds == 1


def test_r32_retry_after_is_capped(kbs: FakeKbs) -> None:
    kbs.faults = [
        answer(reply(503, b"", ("retry-after", "5"))),
        answer(reply(503, b"", ("retry-after", "86400"))),
    ]
    guest = Guest(kbs)
    assert guest.get() == b"secret a"
    assert guest.naps == [5.0, 60.0]


def test_delay_that_a_reply_asked_for_counts_once(kbs: FakeKbs) -> None:
    kbs.faults = [answer(reply(503, b"", ("retry-after", "50"))), fail("net.closed")]
    guest = Guest(kbs)
    assert guest.get() == b"secret a"
    assert guest.naps == [50.0, 0.75]  # nothing came that could have asked for more


def test_retry_after_may_be_a_date_which_counts_from_the_replys_own(kbs: FakeKbs) -> None:
    later = formatdate(DATE + 7, usegmt=True)
    kbs.faults = [answer(reply(503, b"", ("retry-after", later)))]
    guest = Guest(kbs)
    assert guest.get() == b"secret a"
    assert guest.naps == [7.0]


def test_request_limits_follow_the_deadline(kbs: FakeKbs) -> None:
    kbs.faults = [answer(reply(503, b"", ("retry-after", "50")))]
    Guest(kbs, total_seconds=100).get()
    assert [call.limits.total_seconds for call in kbs.calls] == [60.0, 50.0, 50.0, 50.0]
    assert {call.limits.max_body_bytes for call in kbs.calls} == {MAX_ENCRYPTED_BYTES}


def test_r24_repeated_nonce_is_refused(kbs: FakeKbs) -> None:
    nonce = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    kbs.nonces = [nonce, nonce]
    guest = Guest(kbs)
    guest.client.attest()
    assert refused_reason(guest.client.attest) == "kbs.nonce_repeated"
    assert kbs.paths == [*HANDSHAKE, "auth"]


def test_failed_handshake_leaves_no_session(kbs: FakeKbs) -> None:
    guest = Guest(kbs)
    guest.client.attest()
    kbs.faults = [None, answer(refuse(401, "AttestationError"))]
    assert refused_reason(guest.client.attest) == "kbs.attestation_error"
    assert guest.get() == b"secret a"
    assert kbs.paths == [*HANDSHAKE, *HANDSHAKE, *HANDSHAKE, *FETCH]


def restarts(kbs: FakeKbs) -> Fault:
    return lambda _call: kbs.restart()


def test_kbs_that_restarts_amid_a_handshake_is_attested_to_anew(kbs: FakeKbs) -> None:
    kbs.faults = [None, restarts(kbs)]
    guest = Guest(kbs)
    assert guest.get() == b"secret a"
    assert kbs.paths == [*HANDSHAKE, *HANDSHAKE, *FETCH]
    assert len(kbs.keys) == 1  # of the handshake that it judged
    assert not guest.naps


def test_handshake_without_a_cause_is_made_once_more_and_no_oftener(kbs: FakeKbs) -> None:
    kbs.faults = [None, restarts(kbs), None, restarts(kbs)]
    assert refused_reason(Guest(kbs).get) == "kbs.attestation_error"
    assert kbs.paths == [*HANDSHAKE, *HANDSHAKE]


def test_failing_attester_sends_no_attestation(kbs: FakeKbs) -> None:
    def broken(_report_data: ReportData, _request: bytes) -> JsonValue:
        raise PeerError("tpm.refused", "no key")

    client = KbsClient(url=URL, transport=kbs, tee=Tee.TPM, evidence_for=broken, init_data=None)
    assert refused_reason(client.attest) == "tpm.refused"
    assert kbs.paths == ["auth"]
