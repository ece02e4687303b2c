"""The job of the `decrypt` child: from ciphertext on scratch to tars (AES-256-CTR, HMAC-SHA256).

It has the layer keys of one image and no network. Each layer is read twice: the HMAC is drained to
the last byte and compared before the first byte is decrypted, because CTR lets whoever changes the
ciphertext choose what the decompressor gets. The file cannot change in between: it belongs to this
child's user, in a directory that nobody else can enter. Memory is bounded by the chunk. That the
tar is the right one says its diff_id, to the `layers` child.
"""

import hmac
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ccinit.errors import KernelError, VerificationError
from ccinit.formats.layer_encryption import LayerKey, split_keys
from ccinit.pull.decompress import OutputLimit, make_decompressor
from ccinit.pull.layer_file import LayerFile
from ccinit.pull.messages import (
    KEYS_PIPE,
    DecryptReply,
    DecryptRequest,
    EncryptedLayer,
    layer_file,
)
from ccinit.secret import Secret

_CHUNK_BYTES = 1 << 20


class DecryptChannel(Protocol):
    """What the job has of the outside: the directory with the layers, and their keys."""

    @property
    def workspace(self) -> str:
        """The path of the directory."""

    def read_secret(self, name: str, /) -> Secret:
        """Read the pipe `name`."""


def decrypt_job(request: DecryptRequest, channel: DecryptChannel) -> DecryptReply:
    """Decrypt and decompress each layer into its tar, and remove the ciphertext.

    Raises:
        VerificationError: `enc.hmac`, the ciphertext is not what was encrypted.
        FormatError: `pull.gzip`, `pull.zstd`.
        LimitExceededError: `pull.layer_bytes`, `pull.ratio`, `pull.enospc`.
    """
    before = sum(_size(channel.workspace, name) for name in request.tars)
    made = 0
    with channel.read_secret(KEYS_PIPE) as secret:
        keys = split_keys(secret.reveal(), len(request.layers))
    for layer, key in zip(request.layers, keys, strict=True):
        limit = OutputLimit(max_bytes=max(0, request.tar_bytes - before - made))
        made += _decrypt_layer(channel.workspace, layer, key, limit)
    return DecryptReply(tar_bytes=made)


def _decrypt_layer(workspace: str, layer: EncryptedLayer, key: LayerKey, limit: OutputLimit) -> int:
    source = os.path.join(workspace, layer_file(layer.position, is_encrypted=True))
    target = os.path.join(workspace, layer_file(layer.position))
    with ExitStack() as stack:
        ciphertext = stack.enter_context(_opened(source))
        verify_hmac(ciphertext, key, layer.hmac)
        tar = stack.enter_context(LayerFile(target))
        decompressor = make_decompressor(layer.compression, tar.write, limit)
        cipher = Cipher(algorithms.AES(key.key), modes.CTR(key.nonce)).decryptor()
        for chunk in _chunks(ciphertext):
            decompressor.feed(cipher.update(chunk))
        decompressor.finish()
        os.unlink(source)
        return tar.size


def verify_hmac(ciphertext: int, key: LayerKey, expected: bytes) -> bytes:
    """Return the HMAC of the whole file `ciphertext` if it is the expected one.

    Raises:
        VerificationError: `enc.hmac`.
    """
    found = hmac.new(key.key, digestmod="sha256")
    for chunk in _chunks(ciphertext):
        found.update(chunk)
    if not hmac.compare_digest(found.digest(), expected):
        raise VerificationError("enc.hmac", "the ciphertext is not what was encrypted")
    return expected


def _chunks(fd: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(fd, _CHUNK_BYTES, offset):
        yield chunk
        offset += len(chunk)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", path) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _size(workspace: str, name: str) -> int:
    path = os.path.join(workspace, name)
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError as error:
        raise KernelError(error.errno or 0, "stat", path) from error
