import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import FormatError
from measured_boot.cli import main
from measured_boot.commands.verify import verify_folder
from measured_boot.published.dsse import ENVELOPE, IN_TOTO, sign_envelope
from tests.fakes.kbs.unsupported_keys import PUBLIC_PEM
from tests.fakes.published.publications import KEY, write_publication

ABOVE_THE_FOLDER = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "../x", "digest": {"sha256": ""}}],
    }
).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    published = tmp_path / "image"
    published.mkdir()
    write_publication(published)
    return published


def public_pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def verify(folder: Path, key: bytes | None = None) -> int:
    path = folder.with_name("key.pem")
    path.write_bytes(key or public_pem(KEY))
    return main(["verify", str(folder), "--builder-key", str(path)])


def test_verify_folder_returns_what_was_signed(folder: Path) -> None:
    subjects = verify_folder(folder, KEY.public_key())
    assert {"SHA256SUMS", "image-id", "ccinit-prod.efi", "measurements.json"} <= subjects.keys()
    assert verify(folder) == 0


def change(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return act


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / "corim.cbor").unlink()
        make(folder / "corim.cbor")

    return act


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (change("ccinit-prod.root.erofs"), "provenance.digest"),
        (change("measurements.json"), "provenance.digest"),
        (change("SHA256SUMS"), "provenance.digest"),
        (change("image-id"), "provenance.digest"),
        (lambda folder: (folder / "corim.cbor").unlink(), "provenance.files"),
        (lambda folder: (folder / "more").write_bytes(b""), "provenance.files"),
        (replace_by(os.mkfifo), "provenance.files"),
        (replace_by(os.mkdir), "provenance.files"),
        (replace_by(lambda path: path.symlink_to("/dev/zero")), "provenance.files"),
        (
            lambda folder: (folder / ENVELOPE).write_bytes(sign_envelope(b"[]", "text/plain", KEY)),
            "dsse.type",
        ),
    ],
)
def test_verify_refuses(
    folder: Path,
    act: Callable[[Path], object],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verify(folder) == 0
    act(folder)
    assert verify(folder) == 1
    assert f"[{reason}]" in capsys.readouterr().err


def test_verify_says_what_is_missing_and_what_nobody_signed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "corim.cbor").rename(folder / "more")
    assert verify(folder) == 1
    words = f"measured-boot: {folder}: missing: corim.cbor; not signed: more [provenance.files]\n"
    assert capsys.readouterr().err == words


def test_verify_names_the_file_that_is_no_envelope(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ENVELOPE).write_bytes(b"{}")
    assert verify(folder) == 1
    words = f"measured-boot: {folder / ENVELOPE}: not an envelope [dsse.form]\n"
    assert capsys.readouterr().err == words


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (public_pem(Ed25519PrivateKey.from_private_bytes(bytes(32))), "dsse.signature"),
        (public_pem(X25519PrivateKey.from_private_bytes(bytes(32))), "verify.key"),
        (b"no key", "verify.key"),
        (PUBLIC_PEM, "verify.key"),
    ],
)
def test_verify_with_another_key_is_refused(
    folder: Path, key: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(folder, key) == 1
    assert f"[{reason}]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "statement",
    [
        b"[]",
        b"x",
        b'{"_type": "other", "subject": []}',
        b'{"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "x"}]}',
        ABOVE_THE_FOLDER,
    ],
)
def test_verify_folder_signed_statement_of_another_form_is_refused(
    folder: Path, statement: bytes
) -> None:
    (folder / ENVELOPE).write_bytes(sign_envelope(statement, IN_TOTO, KEY))
    with pytest.raises(FormatError) as error:
        verify_folder(folder, KEY.public_key())
    assert error.value.reason == "provenance.form"
