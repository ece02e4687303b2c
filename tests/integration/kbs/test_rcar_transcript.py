"""Everything that a guest sends to a KBS, compared with a second encoder of the protocol.

The guest's whole client speaks over TLS; the server keeps what it decrypts. The expected bytes come
from `tests.fakes.kbs.rcar_reference`, which knows the protocol's description and none of our code;
the key is the only thing that it has to be told, since the guest makes it.
"""

import ast
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from tests.fakes.kbs import rcar_reference as reference
from tests.fakes.kbs.http import FakeKbs
from tests.fakes.kbs.tls import DOCUMENT, Guest, KbsServer
from tests.fakes.platforms.sample_device import SampleDevice

URI = parse_resource_uri("kbs:///ccinit/pod/file-a")
NONCES = [base64.b64encode(bytes([number]) * 32).decode() for number in range(2)]


@pytest.fixture
def server() -> Iterator[KbsServer]:
    kbs = FakeKbs(resources={URI.path: b"secret"}, nonces=[*NONCES])
    with KbsServer(kbs=kbs) as running:
        yield running


def offered_key(server: KbsServer, handshake: int) -> reference.Key:
    """The key that the guest has made, as far as it is its choice: the numbers."""
    key = server.kbs.keys[handshake]
    number = {name: decode(text) for name, text in key.items() if name in {"x", "y", "n"}}
    if "n" in number:
        return reference.rsa_key(number["n"])
    return reference.ec_key(key["crv"], number["x"], number["y"])


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def handshake(server: KbsServer, number: int, *, device: bool) -> list[bytes]:
    """The two requests of a handshake."""
    host = server.url.removeprefix("https://")
    key, nonce = offered_key(server, number), NONCES[number]
    additional = ""
    if device:
        said = base64.b64encode(reference.device_digest(nonce, key)).decode()
        additional = f'{{"sampledevice":{{"svn":"2","report_data":"{said}"}}}}'
    digest = reference.primary_digest(nonce, key, additional)
    body = reference.attest_body(
        nonce,
        key,
        document=DOCUMENT,
        evidence=f'{{"carries":"{digest[:32].hex()}"}}',
        additional=additional,
    )
    return [
        reference.request("POST", "auth", host=host, body=reference.auth_body("tpm")),
        reference.request("POST", "attest", host=host, body=body, cookie=f"session{number}"),
    ]


def fetch(server: KbsServer, number: int) -> bytes:
    host = server.url.removeprefix("https://")
    path = "resource/ccinit/pod/file-a"
    return reference.request("GET", path, host=host, cookie=f"session{number}")


def assert_sent(server: KbsServer, expected: list[bytes]) -> None:
    assert len(server.requests) == len(expected)
    for sent, wanted in zip(server.requests, expected, strict=True):
        assert reference.same_request(sent, wanted), (sent, wanted)


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
@pytest.mark.parametrize("device", [False, True], ids=["alone", "with a device"])
def test_every_byte_of_a_whole_conversation_is_as_described(
    server: KbsServer, algorithm: TeeKeyAlgorithm, *, device: bool
) -> None:
    devices = (SampleDevice(),) if device else ()
    with Guest(server, key_algorithm=algorithm, devices=devices) as client:
        assert client.get_resource(URI).body.reveal() == b"secret"
        server.kbs.end_sessions()
        assert client.get_resource(URI).body.reveal() == b"secret"
    assert_sent(
        server,
        [
            *handshake(server, 0, device=device),
            fetch(server, 0),
            fetch(server, 0),
            *handshake(server, 1, device=device),
            fetch(server, 1),
        ],
    )


@pytest.mark.parametrize("which", [0, 1, 2], ids=["auth", "attest", "resource"])
def test_any_other_byte_would_be_seen(server: KbsServer, which: int) -> None:
    with Guest(server) as client:
        client.get_resource(URI)
    expected = [*handshake(server, 0, device=False), fetch(server, 0)]
    assert_sent(server, expected)
    sent = server.requests[which]
    for index in range(len(sent)):
        changed = sent[:index] + bytes([sent[index] ^ 1]) + sent[index + 1 :]
        # Names of header fields have no case; white space around their values is no part of them.
        if changed.lower() != sent.lower():
            assert not reference.same_request(changed, expected[which]), changed


def test_second_encoder_gives_the_published_digests() -> None:
    vector = json.loads(Path("tests/vectors/rcar/messages.json").read_text())
    key = json.loads(vector["attestation"])["runtime-data"]["tee-pubkey"]
    nonce = json.loads(vector["challenge"])["nonce"]
    own = reference.ec_key(key["crv"], decode(key["x"]), decode(key["y"]))
    assert reference.device_digest(nonce, own).hex() == vector["device_digest"]
    assert reference.primary_digest(nonce, own, "").hex() == vector["report_digest"]


def test_second_encoder_shares_no_code_with_the_first() -> None:
    tree = ast.parse(Path(reference.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    assert imported == {"base64", "hashlib", "dataclasses"}
