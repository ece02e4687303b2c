"""Encrypted images for tests, whose parts a test can replace one by one."""

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.fakes.images.registry import LAYER, FakeImage, descriptor, digest_of, join_image

GZIPPED = f"{LAYER}+gzip"
KEY, NONCE, IV = b"k" * 32, b"n" * 16, b"i" * 12
KEK = b"K" * 32
KID = "kbs:///default/image-key/1"
PREFIX = "org.opencontainers.image.enc."
PACKETS = f"{PREFIX}keys.provider.attestation-agent"
Json = dict[str, object]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ctr(key: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update(data)


def public_options(ciphertext: bytes, **changes: object) -> Json:
    mac = hmac.digest(KEY, ciphertext, hashlib.sha256)
    return {
        "cipher": "AES_256_CTR_HMAC_SHA256",
        "hmac": b64(mac),
        "cipheroptions": {},
        **changes,
    }


def private_options(**changes: object) -> bytes:
    options = {
        "symkey": b64(KEY),
        "digest": "sha256:" + "0" * 64,
        "cipheroptions": {"nonce": b64(NONCE)},
        **changes,
    }
    return json.dumps(options).encode()


def packet(private: bytes = private_options(), kek: bytes = KEK, **changes: object) -> Json:
    return {
        "kid": KID,
        "wrapped_data": b64(AESGCM(kek).encrypt(IV, private, None)),
        "iv": b64(IV),
        "wrap_type": "A256GCM",
        **changes,
    }


def encode(value: Json) -> str:
    return b64(json.dumps(value).encode())


def annotations(ciphertext: bytes, *packets: Json, **public: object) -> dict[str, str]:
    return {
        PACKETS: ",".join(encode(one) for one in packets or (packet(),)),
        f"{PREFIX}pubopts": encode(public_options(ciphertext, **public)),
    }


@dataclass(frozen=True)
class Sealed:
    """One encrypted layer: what is in the registry, and what its descriptor says."""

    blob: bytes
    annotations: Mapping[str, str]


def seal(tar: bytes, pack: Callable[[bytes], bytes] = gzip.compress) -> Sealed:
    ciphertext = ctr(KEY, NONCE, pack(tar))
    return Sealed(ciphertext, annotations(ciphertext))


def make_encrypted_image(layers: Sequence[Sealed | bytes], tars: Sequence[bytes]) -> FakeImage:
    """Return an image; a layer that is bytes is a packed tar in clear."""
    described = [
        ({**descriptor(f"{GZIPPED}+encrypted", layer.blob), "annotations": layer.annotations},
         layer.blob)
        if isinstance(layer, Sealed)
        else (descriptor(GZIPPED, layer), layer)
        for layer in layers
    ]  # fmt: skip
    return join_image(described, list(map(digest_of, tars)), {"Cmd": ["/bin/true"]})
