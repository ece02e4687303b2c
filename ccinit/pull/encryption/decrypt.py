"""The job of the `decrypt` child: from ciphertext to compressed layers (AES-256-CTR, HMAC-SHA256).

It has the layer keys of one image and no network. Each layer is read twice: the HMAC over the whole
layer is compared before the first byte is decrypted, because with CTR anybody who can change the
ciphertext chooses what the decompressor gets. The file cannot change in between: its writer is
gone, and it has no name. Memory is bounded by the chunk size. The output goes to the child that
decompresses, which has no keys; the `layers` child checks the tar by its diff_id.
"""

import hmac
import os
from collections.abc import Iterable, Mapping
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ccinit.errors import VerificationError
from ccinit.formats.oci.layer_encryption import LayerKey, split_keys
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.stream import SINK, SOURCE, LayerReader, LayerWriter
from ccinit.pull.messages.layers import KEYS_PIPE, DecryptReply, DecryptRequest, EncryptedLayer
from ccinit.secret import Secret


class DecryptChannel(Protocol):
    """The job's connection to the outside: a file with the layers, a pipe, and their keys."""

    @property
    def fds(self) -> Mapping[str, int]:
        """File and pipe by name."""

    def read_secret(self, name: str, /) -> Secret:
        """Read the pipe `name`."""


def decrypt_job(request: DecryptRequest, channel: DecryptChannel) -> DecryptReply:
    """Decrypt each layer that is encrypted, and pass all of them on.

    Raises:
        VerificationError: `enc.hmac`, the ciphertext was changed.
        ChildError: `pull.neighbour`, `pull.stream`.
    """
    file = channel.fds[SOURCE]
    source, sink = LayerReader(file), LayerWriter(channel.fds[SINK])
    with channel.read_secret(KEYS_PIPE) as secret:
        keys = split_keys(secret.reveal(), len(request.encrypted))
    encrypted = {
        layer.position: (layer, key) for layer, key in zip(request.encrypted, keys, strict=True)
    }
    _seek(file, 0)
    for position in range(request.layers):
        if position in encrypted:
            _decrypt_layer(file, source, sink, *encrypted[position])
        else:
            _pass_on(source.chunks(), sink)
        sink.end_layer()
    return DecryptReply()


def _decrypt_layer(
    file: int, source: LayerReader, sink: LayerWriter, layer: EncryptedLayer, key: LayerKey
) -> None:
    start = os.lseek(file, 0, os.SEEK_CUR)
    verify_hmac(source.chunks(), key, layer.hmac)
    _seek(file, start)
    cipher = Cipher(algorithms.AES(key.key), modes.CTR(key.nonce)).decryptor()
    _pass_on((cipher.update(chunk) for chunk in source.chunks()), sink)


def verify_hmac(ciphertext: Iterable[memoryview], key: LayerKey, expected: bytes) -> bytes:
    """Return the HMAC of the whole `ciphertext` if it is the expected one.

    Raises:
        VerificationError: `enc.hmac`.
    """
    found = hmac.new(key.key, digestmod="sha256")
    for chunk in ciphertext:
        found.update(chunk)
    if not hmac.compare_digest(found.digest(), expected):
        raise VerificationError("enc.hmac", "the ciphertext is not what was encrypted")
    return expected


def _pass_on(chunks: Iterable[bytes | memoryview], sink: LayerWriter) -> None:
    for chunk in chunks:
        sink.write(chunk)


def _seek(file: int, offset: int) -> None:
    try:
        os.lseek(file, offset, os.SEEK_SET)
    except OSError as error:
        raise kernel_error(error, "lseek", "layers") from error
