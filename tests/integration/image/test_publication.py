"""What is published beside the built images, checked with independent programs.

Builds the images first if they are not up to date. Needs root and the tools tree (build/tools).
"""

import base64
import json
import subprocess
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from measured_boot.commands.verify import verify_folder

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("images")]  # may have to be built

IMAGES = Path("build/image").absolute()


def production_registers() -> list[dict[str, str]]:
    value = json.loads((IMAGES / "measurements.json").read_text())
    (image,) = (row for row in value["images"] if row["profile"] == "prod")
    return [row["registers"] for row in image["predictions"]]


def test_sums_are_what_coreutils_computes() -> None:
    check = ("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
    subprocess.run(check, cwd=IMAGES, check=True)
    sums = subprocess.run(
        ("sha256sum", "SHA256SUMS"), cwd=IMAGES, check=True, capture_output=True, text=True
    )
    assert (IMAGES / "image-id").read_text() == f"sha256:{sums.stdout.split()[0]}\n"


def test_folder_holds_what_was_signed_and_nothing_else() -> None:
    key = load_pem_public_key((IMAGES / "builder.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    subjects = verify_folder(IMAGES, key)
    assert {path.name for path in IMAGES.iterdir()} == {
        *subjects,
        "builder.pub",
        "provenance.dsse.json",
    }


def test_corim_and_trustees_message_hold_the_measurements() -> None:
    corim = cbor2.loads((IMAGES / "corim.cbor").read_bytes())
    triples = cbor2.loads(corim.value[1][0].value)[4][0]
    assert [
        {row[0]: row[1][2][0][1].hex() for row in measurements} for _, measurements in triples
    ] == production_registers()
    message = json.loads((IMAGES / "rvps-sample.json").read_text())
    values = json.loads(base64.b64decode(message["payload"]))
    assert values["tpm_pcr11"] == [row["pcr11"] for row in production_registers() if "pcr11" in row]
    assert "0" * 64 not in values["tpm_pcr11"]


def test_sbom_lists_every_package_of_the_lock() -> None:
    document = json.loads((IMAGES / "sbom.spdx.json").read_text())
    listed = {row["name"]: row.get("versionInfo") for row in document["packages"]}
    report = json.loads((IMAGES / "ccinit-prod.json").read_text())
    assert report["packages"].items() <= listed.items()
    assert "msgpack" in listed
