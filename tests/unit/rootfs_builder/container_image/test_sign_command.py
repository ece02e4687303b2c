"""Signing: what a signature names, where it is put, and which keys sign."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rootfs_builder.container_image.oci_layout import open_layout, read_blob
from tests.unit.rootfs_builder.container_image.command_line import CALLS, refusal, run


@pytest.fixture
def signing_key(tmp_path: Path) -> Path:
    path = tmp_path / "signing.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_signature_of_a_layout_names_image_and_identity(
    layout: Path, tmp_path: Path, signing_key: Path
) -> None:
    words = ("sign", f"oci:{layout}", "--key", signing_key, "--output", tmp_path / "output")
    assert refusal(*words) == "sign.identity"
    identity = ("--identity", "r.example/web", "--signature", f"oci:{tmp_path / 'signature'}")
    run(*words, *identity)
    document = json.loads(
        read_blob(tmp_path / "signature", open_layout(tmp_path / "signature").digest)
    )
    payload = json.loads(read_blob(tmp_path / "signature", document["layers"][0]["digest"]))
    critical = payload["critical"]
    assert critical["image"] == {"docker-manifest-digest": open_layout(layout).digest}
    assert critical["identity"] == {"docker-reference": "r.example/web"}
    policy = json.loads((tmp_path / "output/policy.json").read_text())
    assert policy["default"] == [{"type": "reject"}]
    assert list(policy["transports"]["docker"]) == ["r.example/web"]


def test_signature_of_a_registrys_image_goes_beside_it(tmp_path: Path, signing_key: Path) -> None:
    words = ("--key", signing_key, "--output", tmp_path / "output")
    run("sign", "docker://r.example:5000/a/web:1", *words)
    inspect, copy = CALLS
    assert inspect[:3] == ("skopeo", "inspect", "--raw")
    assert copy[-1].startswith("docker://r.example:5000/a/web:sha256-")
    assert copy[-1].endswith(".sig")


def test_sign_takes_no_location_of_another_form(
    layout: Path, tmp_path: Path, signing_key: Path
) -> None:
    words = ("--key", signing_key, "--output", tmp_path / "output", "--identity", "r.example/web")
    where = ("--signature", f"oci:{tmp_path / 'signature'}")
    assert refusal("sign", layout, *words, *where) == "image.location"


def test_sign_refuses_another_kind_of_key(layout: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    where = ("--identity", "r.example/w", "--signature", f"oci:{tmp_path / 'signature'}")
    words = ("sign", f"oci:{layout}", "--key", path, "--output", tmp_path, *where)
    path.write_bytes(b"no key")
    assert refusal(*words) == "sign.key"
    other = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert refusal(*words) == "sign.key"
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(public)
    assert refusal(*words) == "sign.key"


@pytest.mark.parametrize("identity", ["", "web", "r.example/", "r.example/two words"])
def test_signature_for_a_name_that_no_policy_can_ask_for_is_refused(
    layout: Path, tmp_path: Path, signing_key: Path, identity: str
) -> None:
    words = ("--key", signing_key, "--output", tmp_path / "output")
    where = ("--signature", f"oci:{tmp_path / 'signature'}")
    assert refusal("sign", f"oci:{layout}", *words, *where, "--identity", identity) == (
        "sign.identity"
    )
    assert not (tmp_path / "output").exists()
