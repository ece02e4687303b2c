"""The pinned KBS itself sends what it must not: guest and TLS are real.

Names carry the rows of the table of bad inputs.
"""

import json
import socket
import time

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.release import MAX_ENCRYPTED_BYTES
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.net.http import HttpReply
from tests.fakes.kbs.http import FakeKbs, answer, refuse, reply
from tests.fakes.kbs.jwe_headers import OTHER_CHOICES
from tests.fakes.kbs.tls import QUICK, Guest, KbsServer
from tests.fakes.network.tls_server import (
    TlsServer,
    read_head,
    server_context,
)
from tests.integration.kbs.hostile.harness import (
    GIVEN_UP,
    OTHER,
    PLACES,
    SECRET,
    URI,
    Tamper,
    at,
    body,
    fetch,
    refused_reason,
)
from tests.vectors.jwe.make_vectors import Json, Recipient, seal, seal_key

NONCE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    ("nonce", "reason"),
    [
        pytest.param("", "rcar.nonce", id="empty"),
        pytest.param("A" * MAX_ENCRYPTED_BYTES, "net.body", id="more than any reply may have"),
        pytest.param("A" * (1 << 20), "rcar.length", id="1 MiB"),
        pytest.param("A" * 60_000, "rcar.nonce", id="60 000 bytes"),
        pytest.param("AAAAAAAAAAAAAAAAAAAA", "rcar.nonce", id="15 bytes"),
        pytest.param("not base64, not at all!!", "rcar.nonce", id="not base64"),
    ],
)
def test_r24_nonce_outside_the_rule_is_refused(server: KbsServer, nonce: str, reason: str) -> None:
    assert refused_reason(server, lambda kbs: kbs.nonces.append(nonce)) == reason
    assert server.kbs.paths[-1] == "auth"


def test_r24_nonce_of_an_earlier_handshake_is_refused(server: KbsServer) -> None:
    with Guest(server) as client:
        server.kbs.nonces = [NONCE]
        client.attest()
        client.attest()
        server.kbs.nonces = [NONCE]
        with pytest.raises(CcinitError) as refused:
            client.attest()
    assert refused.value.reason == "kbs.nonce_repeated"


@pytest.mark.parametrize("selected", ["sha256", "sha512", "sm3", "md5", "", None, 384])
def test_r25_hash_that_is_not_the_pinned_one_is_refused(
    server: KbsServer, selected: object
) -> None:
    server.kbs.extra_params = {"selected-hash-algorithm": "sha384"}

    def tamper(kbs: FakeKbs) -> None:
        kbs.extra_params = {"selected-hash-algorithm": selected}

    assert refused_reason(server, tamper) == "rcar.hash"
    assert server.kbs.paths[-1] == "auth"


def resealed(change: Json) -> Tamper:
    """Encrypt as before, under a header with something else in it."""

    def tamper(kbs: FakeKbs) -> None:
        def hostile_seal(plaintext: bytes, key: Recipient) -> object:
            header, _encrypted_key = seal_key(key)
            return seal(plaintext, key, header={**header, **change})

        kbs.seal = hostile_seal

    return tamper


@pytest.mark.parametrize(("change", "reason"), OTHER_CHOICES)
def test_r26_other_algorithm_is_refused(server: KbsServer, change: Json, reason: str) -> None:
    assert refused_reason(server, resealed(change)) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"crv": "P-521"}, "jwk.crv", id="wrong curve"),
        pytest.param({"x": "A" * 43, "y": "A" * 43}, "jwk.point", id="at infinity"),
        pytest.param({"y": "A" * 42 + "E"}, "jwk.point", id="off the curve"),
        pytest.param({"x": "A" * 44}, "jwk.coordinate", id="x too long"),
        pytest.param({"y": "A" * 44}, "jwk.coordinate", id="y too long"),
    ],
)
def test_r27_other_ephemeral_key_is_refused(server: KbsServer, change: Json, reason: str) -> None:
    def tamper(kbs: FakeKbs) -> None:
        def hostile_seal(plaintext: bytes, key: Recipient) -> object:
            header, _encrypted_key = seal_key(key)
            epk = header["epk"]
            assert isinstance(epk, dict)
            return seal(plaintext, key, header={**header, "epk": {**epk, **change}})

        kbs.seal = hostile_seal

    assert refused_reason(server, tamper) == reason


@pytest.mark.parametrize("part", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_r28_changed_or_short_part_is_refused(server: KbsServer, part: str) -> None:
    def changed(text: str) -> Tamper:
        def tamper(kbs: FakeKbs) -> None:
            kbs.seal = lambda plaintext, key: {**seal(plaintext, key), part: text}

        return tamper

    # Two bytes and none: neither is what any of the parts can be.
    for text in ("AAA", ""):
        server.kbs.seal = seal
        reason = refused_reason(server, changed(text))
        assert reason == ("jwe.header.json" if part == "protected" else "jwe.decrypt")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        pytest.param(body(str(OTHER)), "envelope.uri", id="another resource"),
        pytest.param(body(kind=EnvelopeKind.LOG_PSK), "envelope.kind", id="another use"),
        pytest.param(SECRET, "envelope.json", id="no envelope"),
    ],
)
def test_r29_valid_reply_for_another_request_is_refused(
    server: KbsServer, other: bytes, reason: str
) -> None:
    def tamper(kbs: FakeKbs) -> None:
        kbs.resources[URI.path] = other

    assert refused_reason(server, tamper) == reason


@PLACES
def test_r31_body_beyond_the_cap_is_not_read(server: KbsServer, place: int) -> None:
    fault = answer(reply(200, b" " * (2 << 20)))
    assert refused_reason(server, at(place, fault)) == "net.body"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        pytest.param(b"Content-Length: 10737418240\r\n\r\n", "net.body", id="10 GiB"),
        pytest.param(b"X: y\r\n" * 200_000 + b"\r\n", "net.protocol", id="200 000 headers"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65536) + b"\r\n",
            "kbs.unreachable",
            id="chunked forever",
        ),
    ],
)
def test_r31_endless_reply_is_ended(server: KbsServer, head: bytes, reason: str) -> None:
    def endless(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(1000):
            connection.sendall(b"1\r\n \r\n")
            time.sleep(0.05)

    assert fetch(server) == SECRET
    limits = GIVEN_UP if reason == "kbs.unreachable" else QUICK
    with TlsServer(server_context(server.authority.issue()), endless) as hostile:
        start = time.monotonic()
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=hostile.url(path=""), limits=limits)
    assert refused.value.reason == reason
    assert time.monotonic() - start < limits.total_seconds + 10  # it would go on for 50


@PLACES
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(reply(401), "kbs.status", id="401"),
        pytest.param(reply(403), "kbs.forbidden", id="403"),
        pytest.param(reply(404), "kbs.status", id="404"),
        pytest.param(reply(418), "kbs.status", id="418"),
        pytest.param(refuse(401, "PolicyDeny"), "kbs.policy_deny", id="denied"),
    ],
)
def test_r32_refusal_is_final_and_asked_once(
    server: KbsServer, place: int, fault: HttpReply, reason: str
) -> None:
    assert refused_reason(server, at(place, answer(fault))) == reason
    assert len(server.requests) == 3 + place + 1  # the control's, and no second try


@pytest.mark.parametrize("status", [429, 500, 503])
def test_r32_busy_kbs_is_asked_again_and_its_wish_is_capped(server: KbsServer, status: int) -> None:
    assert fetch(server) == SECRET
    server.kbs.faults = [answer(reply(status))]
    assert fetch(server) == SECRET
    # A minute, which is the most that a KBS may ask for, is more than this guest has left.
    server.kbs.faults = [answer(reply(status, b"", ("retry-after", "999999999999")))]
    start = time.monotonic()
    with pytest.raises(CcinitError) as refused:
        fetch(server)
    assert refused.value.reason == "kbs.unreachable"
    assert time.monotonic() - start < QUICK.total_seconds


def test_r32_busy_kbs_is_left_alone_for_as_long_as_it_asks(server: KbsServer) -> None:
    server.kbs.faults = [answer(reply(503, b"", ("retry-after", "1")))]
    start = time.monotonic()
    assert fetch(server) == SECRET
    assert time.monotonic() - start > 1.0


def test_r33_session_that_ends_amid_many_keys_is_renewed_with_a_new_key(
    server: KbsServer,
) -> None:
    uris = [parse_resource_uri(f"kbs:///ccinit/pod/file-{number}") for number in range(4)]
    server.kbs.resources |= {uri.path: body(str(uri)) for uri in uris}
    with Guest(server) as client:
        for uri in uris:
            if uri is uris[2]:
                server.kbs.end_sessions()
            assert client.get_envelope(uri, EnvelopeKind.FILE).envelope.data == SECRET
    assert server.kbs.released == [uri.path for uri in uris]
    assert len({json.dumps(key) for key in server.kbs.keys}) == 2


def test_r33_session_that_is_never_accepted_is_renewed_only_once(server: KbsServer) -> None:
    assert fetch(server) == SECRET
    lost = answer(refuse(401, "TokenNotFound"))
    server.kbs.faults = [None, None, lost, None, None, lost, None, None]
    with pytest.raises(CcinitError) as refused:
        fetch(server)
    assert refused.value.reason == "kbs.token_not_found"
    assert server.kbs.paths.count("auth") == 1 + 2
