"""The conversation with a KBS: sessions, retries and refusals, without sockets."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence

import pytest

from ccinit.attest.client import KbsClient
from ccinit.attest.composite import DeviceAttester
from ccinit.attest.patience import AttestLimits, Waiting
from ccinit.errors import CcinitError, DeadlineError, FormatError, PeerError, VerificationError
from ccinit.formats.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.jwk import TeeKeyAlgorithm
from ccinit.formats.rcar import MAX_ADDITIONAL_BYTES
from ccinit.formats.resource_uri import parse_kbs_uri, parse_resource_uri
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tee import ReportData, Tee
from tests.fakes.device import SampleDevice
from tests.fakes.kbs_http import (
    DATE,
    URL,
    FakeKbs,
    Fault,
    answer,
    evidence_for,
    fail,
    refuse,
    reply,
)

URI = parse_resource_uri("kbs:///ccinit/pod/file-a")
OTHER = parse_resource_uri("kbs:///ccinit/pod/file-b")
HANDSHAKE = ["auth", "attest"]
FETCH = ["resource/ccinit/pod/file-a"]


class Guest:
    """A client whose time passes only by sleeping."""

    def __init__(
        self,
        kbs: FakeKbs,
        *,
        total_seconds: float = 600.0,
        key_algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.P256,
        devices: Sequence[DeviceAttester] = (),
    ) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        self.client = KbsClient(
            url=URL,
            transport=kbs,
            tee=Tee.TPM,
            evidence_for=evidence_for,
            init_data='version = "0.1.0"',
            key_algorithm=key_algorithm,
            devices=devices,
            limits=AttestLimits(total_seconds=total_seconds),
            waiting=Waiting(now=lambda: self.now, sleep=self._sleep, fraction=lambda: 0.5),
        )

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def get(self) -> bytes:
        return self.client.get_resource(URI).body.reveal()


@pytest.fixture
def kbs() -> FakeKbs:
    return FakeKbs(resources={URI.path: b"secret a", OTHER.path: b"secret b"})


def refused_reason(action: Callable[[], object]) -> str:
    with pytest.raises(CcinitError) as refused:
        action()
    return refused.value.reason


def test_attest_returns_token_key_and_date(kbs: FakeKbs) -> None:
    result = Guest(kbs).client.attest()
    assert (result.token, result.date) == ("header.claims.signature", DATE)
    assert result.tee_pubkey.to_json_object() == kbs.keys[0]
    assert kbs.paths == HANDSHAKE
    assert json.loads(kbs.calls[1].body)["init-data"] == {
        "format": "toml",
        "body": 'version = "0.1.0"',
    }
    assert result.token not in repr(result)


def test_resources_come_in_one_session(kbs: FakeKbs) -> None:
    guest = Guest(kbs)
    resource = guest.client.get_resource(URI)
    assert (resource.body.reveal(), resource.date) == (b"secret a", DATE)
    assert guest.client.get_resource(OTHER).body.reveal() == b"secret b"
    assert kbs.paths == [*HANDSHAKE, *FETCH, "resource/ccinit/pod/file-b"]
    assert kbs.calls[-1].headers == (("cookie", "kbs-session-id=session0"),)
    assert "secret" not in repr(resource)


def test_session_that_ends_is_renewed_once_with_a_new_key(kbs: FakeKbs) -> None:
    guest = Guest(kbs)
    first = guest.client.get_resource(URI).tee_pubkey
    kbs.end_sessions()
    second = guest.client.get_resource(URI).tee_pubkey
    assert first != second
    assert kbs.paths == [*HANDSHAKE, *FETCH, *FETCH, *HANDSHAKE, *FETCH]
    assert len({json.dumps(key) for key in kbs.keys}) == 2


def test_session_that_ends_again_is_final(kbs: FakeKbs) -> None:
    lost = answer(refuse(401, "TokenVerifierError"))
    kbs.faults = [None, None, lost, None, None, lost]
    assert refused_reason(Guest(kbs).get) == "kbs.token_verifier_error"
    assert kbs.paths == [*HANDSHAKE, *FETCH, *HANDSHAKE, *FETCH]


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_r33_session_that_ends_amid_many_keys_is_renewed_once_and_nothing_comes_twice(
    kbs: FakeKbs, algorithm: TeeKeyAlgorithm
) -> None:
    guest = Guest(kbs, key_algorithm=algorithm)
    uris = [parse_resource_uri(f"kbs:///ccinit/pod/key-{number}") for number in range(4)]
    kbs.resources |= {uri.path: uri.tag.encode() for uri in uris}
    bodies = []
    for uri in uris:
        bodies.append(guest.client.get_resource(uri).body.reveal())
        if uri is uris[1]:
            kbs.end_sessions()
    assert bodies == [uri.tag.encode() for uri in uris]
    assert kbs.released == [uri.path for uri in uris]
    assert kbs.paths.count("auth") == kbs.paths.count("attest") == 2
    assert len({json.dumps(key) for key in kbs.keys}) == 2
    assert not guest.naps


@pytest.mark.parametrize(
    ("cookie_seconds", "token_seconds", "usable"),
    [
        pytest.param(300, None, 290, id="cookie"),
        pytest.param(300, 60, 50, id="token first"),
        pytest.param(60, 300, 50, id="cookie first"),
        pytest.param(None, 8, 4, id="short token"),
    ],
)
def test_session_is_renewed_before_it_ends(
    kbs: FakeKbs, cookie_seconds: int | None, token_seconds: int | None, usable: int
) -> None:
    kbs.cookie_seconds, kbs.token_seconds = cookie_seconds, token_seconds
    guest = Guest(kbs)
    first = guest.client.get_resource(URI).tee_pubkey
    guest.now += usable - 0.1
    assert guest.client.get_resource(URI).tee_pubkey == first
    assert kbs.paths == [*HANDSHAKE, *FETCH, *FETCH]
    guest.now += 0.2
    assert guest.client.get_resource(URI).tee_pubkey != first
    assert kbs.paths == [*HANDSHAKE, *FETCH, *FETCH, *HANDSHAKE, *FETCH]


def test_session_that_says_no_end_is_used_until_the_kbs_refuses(kbs: FakeKbs) -> None:
    kbs.cookie_seconds = None
    guest = Guest(kbs)
    guest.get()
    guest.now += 1e6
    assert guest.get() == b"secret a"
    assert kbs.paths == [*HANDSHAKE, *FETCH, *FETCH]


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_every_handshake_offers_a_key_of_the_configured_kind(
    kbs: FakeKbs, algorithm: TeeKeyAlgorithm
) -> None:
    guest = Guest(kbs, key_algorithm=algorithm)
    assert guest.get() == b"secret a"
    name = kbs.keys[0]["alg"] + ("-" + kbs.keys[0].get("crv", "")).rstrip("-").replace("P-", "P")
    assert name == algorithm.value


class TestPlugins:
    """What a plugin of the KBS makes for this guest."""

    URI = parse_kbs_uri("kbs+nebula-ca:///credential?name=pod1&ip=10.0.0.2/24")
    PATH = "nebula-ca/credential?name=pod1&ip=10.0.0.2/24"

    def test_encrypted_reply_is_opened(self, kbs: FakeKbs) -> None:
        kbs.resources[self.PATH] = b"credential"
        assert Guest(kbs).client.get_resource(self.URI).body.reveal() == b"credential"
        assert kbs.paths == [*HANDSHAKE, self.PATH]

    def test_plain_reply_is_refused(self, kbs: FakeKbs) -> None:
        plain = reply(200, b"credential", ("content-type", "text/xml; charset=utf-8"))
        kbs.faults = [None, None, answer(plain)]
        guest = Guest(kbs)
        assert refused_reason(lambda: guest.client.get_resource(self.URI)) == "kbs.unencrypted"
        kbs.faults = [answer(reply(200, b"credential"))]
        assert refused_reason(lambda: guest.client.get_resource(self.URI)) == "jwe.json"

    def test_absent_plugin_is_final(self, kbs: FakeKbs) -> None:
        kbs.faults = [None, None, answer(refuse(404, "PluginNotFound"))]
        guest = Guest(kbs)
        assert refused_reason(lambda: guest.client.get_resource(self.URI)) == "kbs.plugin_not_found"


class TestDevices:
    """Composite evidence, with a device that proves nothing."""

    def test_device_attests_first_and_the_platform_covers_its_text(self, kbs: FakeKbs) -> None:
        device = SampleDevice()
        Guest(kbs, devices=(device,)).get()
        [text] = kbs.additional
        # The fake KBS has compared the platform's evidence with a digest over exactly this text.
        key, nonce = kbs.keys[0], json.loads(kbs.calls[1].body)["runtime-data"]["nonce"]
        bound = json.dumps(
            {"nonce": nonce, "tee-pubkey": key}, sort_keys=True, separators=(",", ":")
        )
        digest = hashlib.sha384(bound.encode()).digest()
        assert json.loads(text) == {
            "sampledevice": {"svn": "2", "report_data": base64.b64encode(digest).decode()}
        }

    def test_no_device_is_an_empty_text(self, kbs: FakeKbs) -> None:
        Guest(kbs).get()
        assert kbs.additional == [""]

    def test_devices_of_one_name_or_too_long_send_no_attestation(self, kbs: FakeKbs) -> None:
        two = (SampleDevice(), SampleDevice())
        assert refused_reason(Guest(kbs, devices=two).get) == "attest.device"
        long = (SampleDevice(padding="x" * MAX_ADDITIONAL_BYTES),)
        assert refused_reason(Guest(kbs, devices=long).get) == "rcar.additional_evidence"
        assert kbs.paths == ["auth", "auth"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fail("net.unreachable"), id="unreachable"),
        pytest.param(fail("net.dns"), id="no name"),
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


def test_absent_resource_is_final_by_its_type(kbs: FakeKbs) -> None:
    kbs.resources.clear()
    assert refused_reason(Guest(kbs).get) == "kbs.plugin_internal_error"


def test_r20_kbs_that_never_answers_is_unreachable_in_the_end(kbs: FakeKbs) -> None:
    kbs.faults = [fail("net.unreachable")] * 1000
    guest = Guest(kbs, total_seconds=120)
    with pytest.raises(DeadlineError) as ended:
        guest.get()
    assert ended.value.reason == "kbs.unreachable"
    assert 100 < guest.now < 120
    assert 8 < len(kbs.calls) < 30


def test_r32_retry_after_is_capped(kbs: FakeKbs) -> None:
    kbs.faults = [
        answer(reply(503, b"", ("retry-after", "5"))),
        answer(reply(503, b"", ("retry-after", "86400"))),
    ]
    guest = Guest(kbs)
    assert guest.get() == b"secret a"
    assert guest.naps == [5.0, 60.0]


def test_request_limits_follow_the_deadline(kbs: FakeKbs) -> None:
    kbs.faults = [answer(reply(503, b"", ("retry-after", "50")))]
    Guest(kbs, total_seconds=100).get()
    assert [call.limits.total_seconds for call in kbs.calls] == [60.0, 50.0, 50.0, 50.0]
    assert {call.limits.max_body_bytes for call in kbs.calls} == {1024 * 1024}


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


def test_failing_attester_sends_no_attestation(kbs: FakeKbs) -> None:
    def broken(_report_data: ReportData) -> JsonValue:
        raise PeerError("tpm.refused", "no key")

    client = KbsClient(url=URL, transport=kbs, tee=Tee.TPM, evidence_for=broken, init_data=None)
    assert refused_reason(client.attest) == "tpm.refused"
    assert kbs.paths == ["auth"]


class TestEnvelope:
    """A body that has to say what it is."""

    @staticmethod
    def envelope(uri: str = str(URI), kind: EnvelopeKind = EnvelopeKind.FILE) -> bytes:
        return encode_envelope(Envelope(uri=parse_resource_uri(uri), kind=kind, data=b"data"))

    def test_envelope_that_was_asked_for_is_returned(self, kbs: FakeKbs) -> None:
        kbs.resources[URI.path] = self.envelope()
        resource = Guest(kbs).client.get_envelope(URI, EnvelopeKind.FILE)
        assert (resource.envelope.data, resource.date) == (b"data", DATE)
        assert resource.tee_pubkey.to_json_object() == kbs.keys[0]

    @pytest.mark.parametrize(
        ("body", "error", "reason"),
        [
            pytest.param(envelope(str(OTHER)), VerificationError, "envelope.uri", id="swapped"),
            pytest.param(
                envelope(kind=EnvelopeKind.VOLUME_KEY),
                VerificationError,
                "envelope.kind",
                id="another kind",
            ),
            pytest.param(b"plain", FormatError, "envelope.json", id="no envelope"),
        ],
    )
    def test_r29_other_body_is_refused(
        self, kbs: FakeKbs, body: bytes, error: type[CcinitError], reason: str
    ) -> None:
        kbs.resources[URI.path] = body
        with pytest.raises(error) as refused:
            Guest(kbs).client.get_envelope(URI, EnvelopeKind.FILE)
        assert refused.value.reason == reason

    def test_reply_to_another_session_is_refused(self, kbs: FakeKbs) -> None:
        guest = Guest(kbs)
        guest.client.attest()
        kbs.faults = [None, None, None]
        old = kbs.request(
            "GET",
            f"{URL}/kbs/v0/resource/{URI.path}",
            headers=kbs.calls[-1].headers,
            limits=kbs.calls[-1].limits,
        )
        guest.client.attest()
        kbs.faults = [answer(old)]
        assert refused_reason(guest.get) == "jwe.decrypt"
