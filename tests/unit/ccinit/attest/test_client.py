"""The conversation with a KBS, without sockets: handshakes, sessions and what comes in them."""

import base64
import hashlib
import json
from typing import Any

import pytest

from ccinit.attest.client import KbsClient, ask_time
from ccinit.attest.patience import AttestLimits
from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.rcar import MAX_ADDITIONAL_BYTES
from ccinit.formats.kbs.resource_uri import parse_kbs_uri, parse_resource_uri
from ccinit.values import replace
from tests.fakes.kbs.http import (
    DATE,
    URL,
    FakeKbs,
    answer,
    evidence_for,
    refuse,
    reply,
)
from tests.fakes.platforms.sample_device import SampleDevice
from tests.unit.ccinit.attest.guest_client import (
    FETCH,
    HANDSHAKE,
    OTHER,
    URI,
    Guest,
    refused_reason,
)


def test_attest_returns_token_and_date(kbs: FakeKbs) -> None:
    result = Guest(kbs).client.attest()
    assert (result.token, result.date) == ("header.claims.signature", DATE)
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
def test_r95_session_is_renewed_before_it_ends(
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
    guest = Guest(kbs, total_seconds=2e6)
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


def test_request_tells_of_the_platform_what_its_verifier_needs(kbs: FakeKbs) -> None:
    def extra_params(**of_client: Any) -> object:
        client = KbsClient(
            url=URL,
            transport=kbs,
            tee=Tee.TPM,
            evidence_for=evidence_for,
            init_data=None,
            **of_client,
        )
        client.attest()
        return json.loads(kbs.calls[-2].body)["extra-params"]

    hashes = {"supported-hash-algorithms": ["sha384"]}
    assert extra_params() == hashes
    assert extra_params(parameters={"svsm": "keys"}) == {**hashes, "svsm": "keys"}


def test_platform_that_answers_no_requests_is_given_none(kbs: FakeKbs) -> None:
    requests: list[bytes] = []

    def note(report_data: ReportData, request: bytes) -> JsonValue:
        requests.append(request)
        return evidence_for(report_data, request)

    KbsClient(url=URL, transport=kbs, tee=Tee.TPM, evidence_for=note, init_data=None).attest()
    assert requests == [b""]


def test_largest_reply_is_that_of_the_limits(kbs: FakeKbs) -> None:
    client = KbsClient(
        url=URL,
        transport=kbs,
        tee=Tee.TPM,
        evidence_for=evidence_for,
        init_data=None,
        limits=AttestLimits(max_resource_bytes=4096),
    )
    client.get_resource(URI)
    assert {call.limits.max_body_bytes for call in kbs.calls} == {4096}


class TestTime:
    """What the KBS says of the time, before anybody attests."""

    def test_time_is_the_date_of_any_reply(self) -> None:
        kbs = FakeKbs(faults=[answer(reply(405))])
        assert ask_time(URL + "/", kbs) == DATE
        (call,) = kbs.calls
        assert (call.method, call.path, call.body) == ("GET", "auth", b"")
        assert call.limits.max_body_bytes == 64 * 1024  # of a page that nobody reads

    def test_reply_without_a_date_is_refused(self) -> None:
        dateless = replace(reply(405), date=None)
        assert refused_reason(lambda: ask_time(URL, FakeKbs(faults=[answer(dateless)]))) == (
            "kbs.date"
        )


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
