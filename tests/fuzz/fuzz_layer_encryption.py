"""Invariant: a wrap that differs from what was made opens to the same layer key or to none, and
annotations that differ are read or refused; a refusal is a `FormatError` or a `VerificationError`
with a reason `enc.…`, never anything else.

A changed wrap may still stand for the same message (white space, the name of a recipient); then the
key is the same. Run as `python -m tests.fuzz.fuzz_layer_encryption [SECONDS [SEED]]`.
"""

import base64
import json
import random
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.oci.layer_encryption import (
    KeyWrap,
    LayerKey,
    WrapScheme,
    parse_key_packet,
    parse_layer_encryption,
)
from ccinit.pull.encryption.unwrap import unwrap_job
from ccinit.pull.messages.layers import UnwrapRequest, WrappedKey
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import KEK, annotations, packet
from tests.fuzz.trials import Trials, run

SKOPEO = json.loads(Path("tests/vectors/layer_encryption/skopeo.json").read_text())
ANNOTATIONS = annotations(b"ciphertext")
BITS = b'{}[]",:\\ AZaz09-_=+/\x00\xff'


@dataclass(frozen=True)
class Sample:
    """A wrap and the key that opens it."""

    scheme: WrapScheme
    data: bytes
    key: bytes

    def read_secret(self, _name: str) -> Secret:
        return Secret(self.key)

    def open(self, data: bytes) -> list[LayerKey]:
        """Open other bytes in the wrap's place."""
        kek = parse_key_packet(data).kek if self.scheme is WrapScheme.PROVIDER else None
        wrap = KeyWrap(scheme=self.scheme, data=data, kek=kek)
        wrapped = (WrappedKey(position=0, wrap=wrap, nonce=b""),)
        return [one.key for one in unwrap_job(UnwrapRequest(wrapped=wrapped), self).keys]


def skopeo(label: str, scheme: WrapScheme, key: str) -> Sample:
    """A wrap that skopeo has made."""
    data = base64.b64decode(SKOPEO["wraps"][label][scheme.value])
    return Sample(scheme, data, SKOPEO["keys"][key].encode())


SAMPLES = (
    skopeo("rsa", WrapScheme.JWE, "rsa"),
    skopeo("p256", WrapScheme.JWE, "p256"),
    skopeo("two", WrapScheme.JWE, "p256"),
    skopeo("pkcs7", WrapScheme.PKCS7, "rsa"),
    Sample(WrapScheme.PROVIDER, json.dumps(packet()).encode(), KEK),
)
KEYS = tuple(sample.open(sample.data) for sample in SAMPLES)


def check_wrap(sample: Sample, expected: list[LayerKey], data: bytes) -> None:
    """Check the invariant for one wrap."""
    try:
        opened = sample.open(data)
    except (FormatError, VerificationError) as error:
        reason = error.reason
    else:
        assert opened in ([], expected)
        return
    assert reason.startswith("enc."), reason


def check_annotations(value: dict[str, str]) -> None:
    """Check the invariant for a descriptor's annotations."""
    try:
        found = parse_layer_encryption(value)
    except FormatError as error:
        reason = error.reason
    else:
        assert len(found.hmac) == 32
        assert found.wraps
        return
    assert reason.startswith("enc."), reason


def mutate(source: random.Random, data: bytes) -> bytes:
    """Change some bytes, or cut, or double some."""
    changed = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(changed))
        match source.randrange(4):
            case 0:
                changed[spot] = source.choice(BITS)
            case 1:
                changed[spot] ^= 1 << source.randrange(8)
            case 2:
                del changed[spot : spot + source.randrange(1, 30)]
            case _:
                changed[spot:spot] = changed[spot : spot + source.randrange(1, 30)]
        changed = changed or bytearray(b"x")
    return bytes(changed)


def mutate_annotations(source: random.Random) -> dict[str, str]:
    """Change one annotation, outside or below its base64."""
    value = dict(ANNOTATIONS)
    name = source.choice(sorted(value))
    data = value[name].encode()
    if source.randrange(2):
        value[name] = base64.b64encode(mutate(source, base64.b64decode(data))).decode()
    else:
        value[name] = mutate(source, data).decode("latin-1")
    if not source.randrange(8):
        value[mutate(source, name.encode()).decode("latin-1")] = value.pop(name)
    return value


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    assert all(len(keys) == 1 for keys in KEYS)
    check_annotations(ANNOTATIONS)
    trials = Trials(seconds, seed)
    for source in trials:
        for sample, keys in zip(SAMPLES, KEYS, strict=True):
            check_wrap(sample, keys, mutate(source, sample.data))
        check_annotations(mutate_annotations(source))
    return trials.count


if __name__ == "__main__":
    run(main)
