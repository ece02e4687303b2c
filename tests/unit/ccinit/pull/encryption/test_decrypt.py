"""Ciphertext is decrypted only if its HMAC, drained to the end, is the expected one."""

import hmac

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.oci.compression import Compression
from ccinit.formats.oci.layer_encryption import LayerKey, join_keys
from ccinit.pull.encryption import decrypt
from ccinit.pull.encryption.decrypt import decrypt_job
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.messages.layers import DecryptReply, DecryptRequest, EncryptedLayer
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.images.encrypted_image import KEY, NONCE, ctr
from tests.fakes.images.layer_pipes import LayerPipe

LAYER_KEY = LayerKey(key=KEY, nonce=NONCE)
CONTENT = b"content" * 300_000  # more than one chunk


class Harness:
    """An encrypted layer between two that are not."""

    def __init__(self) -> None:
        self.keys = join_keys((LAYER_KEY,))
        self.ciphertext = ctr(KEY, NONCE, CONTENT)
        layer = EncryptedLayer(
            position=1,
            compression=Compression.GZIP,
            hmac=hmac.digest(KEY, self.ciphertext, "sha256"),
            nonce=b"",
            wraps=(),
        )
        self.request = DecryptRequest(layers=3, encrypted=(layer,))
        self.sink = LayerPipe()
        self.fds: dict[str, int] = {}

    def read_secret(self, name: str) -> Secret:
        assert name == "keys"
        return Secret(self.keys)

    def run(self) -> DecryptReply:
        self.source = LayerPipe([b"first", self.ciphertext, b"last"])
        self.sink = LayerPipe()
        self.fds = {SOURCE: self.source.fd, SINK: self.sink.fd}
        return decrypt_job(self.request, self)

    def refusal(self) -> str:
        with pytest.raises(CcinitError) as refused:
            self.run()
        return refused.value.reason


def test_layers_are_passed_on_and_the_encrypted_ones_decrypted() -> None:
    harness = Harness()
    assert wire.decode(DecryptRequest, wire.encode(harness.request)) == harness.request
    harness.run()
    assert harness.sink.layers() == [b"first", CONTENT, b"last"]


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position:][1:]


@pytest.mark.parametrize("change", ["first byte", "last byte", "shorter", "longer", "empty"])
def test_r58_ciphertext_that_differs_is_refused_before_anything_is_decrypted(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    harness = Harness()
    data = harness.ciphertext
    harness.ciphertext = {
        "first byte": flipped(data, 0),
        "last byte": flipped(data, len(data) - 1),
        "shorter": data[:-1],
        "longer": data + b"\0",
        "empty": b"",
    }[change]
    with monkeypatch.context() as patch:
        patch.setattr(decrypt, "Cipher", None)  # a call would be a TypeError
        assert harness.refusal() == "enc.hmac"
    assert harness.sink.layers() == [b"first"]
    harness.ciphertext = data
    harness.run()


def test_r58_wrong_key_and_wrong_hmac_are_refused() -> None:
    harness = Harness()
    good = harness.request
    harness.request = replace(good, encrypted=(replace(good.encrypted[0], hmac=bytes(32)),))
    assert harness.refusal() == "enc.hmac"
    harness.request, harness.keys = good, join_keys((LayerKey(key=bytes(32), nonce=NONCE),))
    assert harness.refusal() == "enc.hmac"
    harness.keys = join_keys((LAYER_KEY,))
    harness.run()


def test_r88_hmac_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other comparison decides: where this one says yes, another ciphertext passes."""
    harness = Harness()
    harness.ciphertext = flipped(harness.ciphertext, 0)
    assert harness.refusal() == "enc.hmac"
    monkeypatch.setattr(hmac, "compare_digest", lambda _found, _expected: True)
    harness.run()


def test_wrong_nonce_gives_another_content() -> None:
    harness = Harness()
    harness.keys = join_keys((LayerKey(key=KEY, nonce=b"m" * 16),))
    harness.run()
    assert harness.sink.layers()[1] != CONTENT


def test_keys_of_another_number_of_layers_are_refused() -> None:
    harness = Harness()
    harness.keys *= 2
    assert harness.refusal() == "enc.keys"


def test_layers_that_are_not_there_are_missed() -> None:
    harness = Harness()
    harness.request = replace(harness.request, layers=4)
    assert harness.refusal() == "pull.neighbour"
