"""Invariant: an OCI layout, whatever is in its index, manifest and blobs, is copied whole and
encrypted to an image that the guest's own reader takes, or refused with a `CcinitError`; and a
signed folder, whatever is in its envelope and statement, verifies as it was or is refused.

Run as `python -m tests.fuzz.fuzz_image_layout [SECONDS [SEED]]`.
"""

import contextlib
import hashlib
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.errors import CcinitError
from ccinit.formats.oci.image import Manifest, parse_image_document
from measured_boot.commands.verify import verify_folder
from measured_boot.published.dsse import ENVELOPE, IN_TOTO, sign_envelope
from rootfs_builder.container_image.encryption import encrypt_image
from rootfs_builder.container_image.layer_encryption import PublicKeyRecipient
from rootfs_builder.container_image.oci_layout import (
    CONFIG_TYPE,
    LAYER_TYPE,
    Blob,
    copy_layout,
    open_layout,
    read_blob,
    write_image,
)
from tests.fuzz.mutation import mutate_json, mutate_text
from tests.fuzz.trials import Trials, run

RECIPIENT = PublicKeyRecipient(key=ec.generate_private_key(ec.SECP256R1()).public_key())
BUILDER = Ed25519PrivateKey.generate()
FILES = {"image.efi": b"one", "rootfs.erofs": b"two"}
EMPTY = hashlib.sha256(b"").hexdigest()
NOISE = (
    *(b"\0", b"\xff", b"\\ud800", b"{}", b"[]", b"null", b"[" * 2000, b"1e999", b"9" * 5000),
    *(b"sha256:", b"sha512:", EMPTY.encode(), b"..", b"/", b'"manifests"', b'"layers": [], '),
    *(b"a" * 300, b"\n", b'"config": {}, ', b"+encrypted", b'"mediaType": "", '),
)


def changed(source: random.Random, data: bytes) -> bytes:
    change = source.choice((mutate_json, mutate_json, mutate_text))
    return change(source, data, NOISE)


def check_layout(source: random.Random, folder: Path) -> bool:
    """Change a layout; return whether it was still encrypted."""
    layout = folder / "source"
    layers = [Blob(media_type=LAYER_TYPE, data=b"layer")]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    image = write_image(
        Blob(media_type=CONFIG_TYPE, data=json.dumps(config).encode()),
        layers,
        layout,
        {"annotations": {"a": "b"}},
    )
    index = (layout / "index.json").read_bytes()
    if source.randrange(3):
        manifest = changed(source, read_blob(layout, image.digest))
        digest = hashlib.sha256(manifest).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(manifest)
        index = index.replace(image.digest.encode(), f"sha256:{digest}".encode())
    if source.randrange(3) == 0:
        index = changed(source, index)
    (layout / "index.json").write_bytes(index)
    blob = source.choice(sorted((layout / "blobs" / "sha256").iterdir()))
    match source.randrange(12):
        case 0:
            blob.unlink()
        case 1:
            blob.write_bytes(changed(source, blob.read_bytes()))
    with contextlib.suppress(CcinitError):
        found = open_layout(layout)
        with contextlib.suppress(CcinitError):
            copy_layout(found, folder / "copy")
            assert open_layout(folder / "copy").digest == found.digest
        made = encrypt_image(found, (RECIPIENT,), folder / "encrypted")
        encrypted = parse_image_document(read_blob(made.layout, made.digest))
        assert isinstance(encrypted, Manifest)
        for layer in encrypted.layers:
            assert layer.encryption is not None
        return True
    return False


def check_folder(source: random.Random, folder: Path) -> bool:
    """Change what is signed of a folder, or its envelope; return whether it verifies."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    subjects = [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": subjects}
    payload = original = json.dumps(statement).encode()
    if source.randrange(3) == 0:
        payload = changed(source, payload)
    envelope = sign_envelope(payload, IN_TOTO, BUILDER)
    if source.randrange(2):
        envelope = changed(source, envelope)
    (folder / ENVELOPE).write_bytes(envelope)
    with contextlib.suppress(CcinitError):
        verified = verify_folder(folder, BUILDER.public_key())
        assert verified == digests
        return payload == original
    return False


def in_folder(check: Callable[[random.Random, Path], bool], source: random.Random) -> bool:
    """Check in a folder that is new and gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        return check(source, Path(name))


def main(seconds: float, seed: int) -> int:
    """Change layouts and folders for a while; return how many."""
    trials = Trials(seconds, seed)
    encrypted = verified = 0
    for source in trials:
        encrypted += in_folder(check_layout, source)
        verified += in_folder(check_folder, source)
    trials.require(encrypted, one_in=20)
    trials.require(verified, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
