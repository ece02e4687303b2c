"""What the tests of SEV-SNP register: one image, one pod, one vendor, firmware of today."""

import hashlib

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.measurements.image import SnpMeasurements
from guest_owner.kbs.references.requirements import (
    Requirements,
    SnpRequirements,
    parse_requirements,
)
from guest_owner.kbs.references.values import Profile, References, ReferenceSet, RegisteredRoot
from tests.fakes.platforms.snp import Chain, FakeSnp
from tests.unit.guest_owner.kbs.values import DOCUMENT, initdata

REPORT_DATA = hashlib.sha512(b"nonce and key").digest()
HOST_DATA = hashlib.sha256(DOCUMENT).digest()
MEASUREMENT = hashlib.sha384(b"image-1").digest()
REQUIREMENTS = b"""
version = 1
[[product]]
name = "Milan"
bootloader = 4
tee = 0
snp = 24
microcode = 219
[policy]
allow = ["smt"]
"""


def requirements(text: bytes = b"") -> SnpRequirements:
    demanded = parse_requirements(REQUIREMENTS + text, Tee.SNP)
    assert isinstance(demanded, SnpRequirements)
    return demanded


def snp_image(name: str = "image-1", profile: Profile = Profile.PROD) -> ReferenceSet:
    values = (hashlib.sha384(name.encode()).digest(), hashlib.sha384(b"2" + name.encode()).digest())
    return ReferenceSet(name=name, profile=profile, measured=SnpMeasurements(values=values))


def booted_snp(**fields: bytes | int) -> FakeSnp:
    """A processor as a guest of this image and pod finds it."""
    return FakeSnp().with_fields(**({"host_data": HOST_DATA} | fields))


def snp_references(
    *sets: ReferenceSet,
    certificates: tuple[bytes, ...] | None = None,
    demanded: Requirements | None = None,
) -> References:
    trusted = Chain().trusted if certificates is None else certificates
    return References(
        sets=sets or (snp_image(),),
        roots=(RegisteredRoot(name="amd", platform=Tee.SNP, certificates=trusted),),
        requirements=(demanded or requirements(),),
        initdata=(initdata(),),
    )
