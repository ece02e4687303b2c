"""Ciphertext becomes a tar only if its HMAC, drained to the end, is the expected one."""

import gzip
import hmac
from pathlib import Path

import pytest
import zstandard

from ccinit.errors import CcinitError
from ccinit.formats import wire
from ccinit.formats.layer_encryption import LayerKey, join_keys
from ccinit.formats.oci_image import Compression
from ccinit.pull import decrypt
from ccinit.pull.decrypt import decrypt_job
from ccinit.pull.messages import DecryptReply, DecryptRequest, EncryptedLayer
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.encrypted_image import KEY, NONCE, ctr
from tests.fakes.tars import Entry, make_tar

LAYER_KEY = LayerKey(key=KEY, nonce=NONCE)
TAR = make_tar(Entry("file", b"content" * 100_000))
PACKED = {
    Compression.NONE: TAR,
    Compression.GZIP: gzip.compress(TAR),
    Compression.ZSTD: zstandard.ZstdCompressor().compress(TAR),
}


class Harness:
    def __init__(self, workspace: Path, compression: Compression = Compression.GZIP) -> None:
        self.workspace = str(workspace)
        self.keys = join_keys((LAYER_KEY,))
        ciphertext = ctr(KEY, NONCE, PACKED[compression])
        self.source = workspace / "layer-1.encrypted"
        self.source.write_bytes(ciphertext)
        layer = EncryptedLayer(
            position=1,
            compression=compression,
            hmac=hmac.digest(KEY, ciphertext, "sha256"),
            nonce=b"",
            wraps=(),
        )
        self.request = DecryptRequest(layers=(layer,), tars=(), tar_bytes=1 << 24)

    def read_secret(self, name: str) -> Secret:
        assert name == "keys"
        return Secret(self.keys)

    def run(self) -> DecryptReply:
        return decrypt_job(self.request, self)

    def refusal(self) -> str:
        with pytest.raises(CcinitError) as refused:
            self.run()
        return refused.value.reason


@pytest.mark.parametrize("compression", list(Compression))
def test_layer_of_every_compression_becomes_its_tar(
    tmp_path: Path, compression: Compression
) -> None:
    harness = Harness(tmp_path, compression)
    assert wire.decode(DecryptRequest, wire.encode(harness.request)) == harness.request
    assert harness.run() == DecryptReply(tar_bytes=len(TAR))
    assert (tmp_path / "layer-1.tar").read_bytes() == TAR
    assert not harness.source.exists()


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position:][1:]


@pytest.mark.parametrize("change", ["first byte", "last byte", "shorter", "longer", "empty"])
def test_r58_ciphertext_that_differs_is_refused_before_anything_is_decrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    harness = Harness(tmp_path)
    data = harness.source.read_bytes()
    harness.source.write_bytes(
        {
            "first byte": flipped(data, 0),
            "last byte": flipped(data, len(data) - 1),
            "shorter": data[:-1],
            "longer": data + b"\0",
            "empty": b"",
        }[change]
    )
    with monkeypatch.context() as patch:
        patch.setattr(decrypt, "make_decompressor", None)  # a call would be a TypeError
        patch.setattr(decrypt, "Cipher", None)
        assert harness.refusal() == "enc.hmac"
    assert not (tmp_path / "layer-1.tar").exists()
    harness.source.write_bytes(data)
    harness.run()


def test_r58_wrong_key_and_wrong_hmac_are_refused(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    good = harness.request
    harness.request = replace(good, layers=(replace(good.layers[0], hmac=bytes(32)),))
    assert harness.refusal() == "enc.hmac"
    harness.request, harness.keys = good, join_keys((LayerKey(key=bytes(32), nonce=NONCE),))
    assert harness.refusal() == "enc.hmac"
    harness.keys = join_keys((LAYER_KEY,))
    harness.run()


def test_wrong_nonce_gives_no_gzip(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.keys = join_keys((LayerKey(key=KEY, nonce=b"m" * 16),))
    assert harness.refusal() == "pull.gzip"


def test_keys_of_another_number_of_layers_are_refused(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.keys *= 2
    assert harness.refusal() == "enc.keys"


def test_tars_that_are_there_count_against_the_cap(tmp_path: Path) -> None:
    (tmp_path / "layer-0.tar").write_bytes(b"x" * 1000)
    harness = Harness(tmp_path)
    request = replace(harness.request, tars=("layer-0.tar",), tar_bytes=len(TAR) + 999)
    harness.request = request
    assert harness.refusal() == "pull.layer_bytes"
    (tmp_path / "layer-1.tar").unlink()
    harness.request = replace(request, tar_bytes=len(TAR) + 1000)
    harness.run()


def test_files_that_are_not_there_or_in_the_way_are_refused(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    (tmp_path / "layer-1.tar").symlink_to("/etc/passwd")
    assert harness.refusal() == "kernel.open"
    harness.source.unlink()
    assert harness.refusal() == "kernel.open"
    harness.request = replace(harness.request, tars=("layer-0.tar",))
    assert harness.refusal() == "kernel.stat"
