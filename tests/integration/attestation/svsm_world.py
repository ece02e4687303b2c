"""An owner who trusts one SVSM, one chip and one image, and a TPM as that image leaves it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.formats.tcg.tpm_commands import TpmCommands
from guest_owner.kbs.references.measurements.image import Boot, TpmMeasurements
from guest_owner.kbs.references.values import Profile, ReferenceSet, encode_reference_set
from tests.fakes.platforms.snp import Chain
from tests.fakes.platforms.swtpm import Swtpm
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.kbs.harness import DOCUMENT, Kbs, make_state, run, running_kbs
from tests.unit.guest_owner.kbs.svsm_values import DEMANDED, LAUNCH

__all__ = ["DIGEST", "LAUNCH", "booted", "svsm_kbs"]

DIGEST = hashlib.sha256(DOCUMENT).digest()
EVENTS = {index: hashlib.sha256(b"boot %d" % index).digest() for index in (4, 9, 11)}
IMAGE = ReferenceSet(
    name="svsm-image",
    profile=Profile.PROD,
    measured=TpmMeasurements(
        boot=Boot.UKI, pcr={index: extend(bytes(32), event) for index, event in EVENTS.items()}
    ),
)


@contextmanager
def svsm_kbs(root: Path) -> Iterator[Kbs]:
    """A KBS whose owner registered all of it, with their own commands."""
    state = make_state(root)
    (root / "amd.pem").write_bytes(Chain().pem)
    (root / "vcek.pem").write_bytes(Chain().leaf.public_bytes(Encoding.PEM))
    (root / "svsm.toml").write_bytes(DEMANDED)
    (root / "image.json").write_bytes(encode_reference_set(IMAGE))
    platform = ("--platform", "svsm", "--state", state)
    run("register", "root", *platform, root / "amd.pem", "--name", "amd")
    # An SVSM passes no certificates on, so the owner has the chip's.
    run("register", "root", *platform, root / "vcek.pem", "--name", "chip")
    run("register", "requirements", *platform, root / "svsm.toml")
    run("register", "reference", "--state", state, root / "image.json")
    with running_kbs(state) as server:
        yield server


def booted(directory: Path, *, bound: bool = True) -> Swtpm:
    """A TPM as firmware leaves it, and CONFIG after it."""
    tpm = Swtpm(directory)
    with tpm.open() as device:
        for index, event in EVENTS.items():
            TpmCommands(device).extend_pcr(index, event)
        if bound:
            TpmCommands(device).extend_pcr(8, DIGEST)
    return tpm
