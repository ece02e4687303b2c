"""What the tests of the KBS register: one production image, one test image, one pod."""

import hashlib
import re
from collections.abc import Mapping

import pytest

from ccinit.errors import CcinitError
from guest_owner.kbs.appraisal import ONE_OF, EvidenceRefusedError
from guest_owner.kbs.references.measurements.image import Boot, TpmMeasurements
from guest_owner.kbs.references.values import (
    Profile,
    References,
    ReferenceSet,
    RegisteredInitdata,
    RegisteredKey,
    register_initdata,
)
from guest_owner.trustee.export import boot_values
from tests.fakes.platforms.tpm_quote import FakeTpm, extend, rsa_key

DOCUMENT = b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n'
REPORT_DATA = hashlib.sha256(b"nonce and key").digest()


def register(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


def reference_set(
    name: str = "image-1", profile: Profile = Profile.PROD, boot: Boot = Boot.UKI
) -> ReferenceSet:
    pcr = {index: register(f"{name} pcr {index}") for index in (4, 9, 11)}
    if boot is Boot.DIRECT:
        pcr[11] = bytes(32)
    return ReferenceSet(name=name, profile=profile, measured=TpmMeasurements(boot=boot, pcr=pcr))


def boot_of(reference: ReferenceSet) -> str:
    """The set as the one string that Trustee's policies compare."""
    (boot,) = boot_values(reference)
    return boot.removeprefix("tpm:")


def registers_of(reference: ReferenceSet) -> Mapping[int, bytes]:
    assert isinstance(reference.measured, TpmMeasurements)
    return reference.measured.pcr


def initdata(name: str = "shop") -> RegisteredInitdata:
    return register_initdata(name, DOCUMENT)


def booted_tpm(reference: ReferenceSet, document: bytes = DOCUMENT, key: int = 0) -> FakeTpm:
    """A TPM as a guest of this image and pod leaves it."""
    tpm = FakeTpm(key=rsa_key(key))
    for index, value in registers_of(reference).items():
        tpm.pcrs[index] = value
    tpm.pcrs[8] = extend(bytes(32), hashlib.sha256(document).digest())
    tpm.pcrs[14] = register("event log")
    return tpm


def references(*sets: ReferenceSet, tpm: FakeTpm) -> References:
    return References(
        sets=sets,
        attestation_keys=(RegisteredKey(name="node", public_der=tpm.public_der),),
        initdata=(initdata(),),
    )


def failed(error: EvidenceRefusedError) -> list[str]:
    """The claims that do not hold, by name and in the order in which they were compared.

    None of them may read as if it held: to whoever looks for the reason it is the only text.
    """
    for claim in error.claims:
        accepted = [claim.expected]
        if claim.expected.startswith((ONE_OF, "none, or ")):
            accepted += re.split(", (?:or )?", claim.expected.removeprefix(ONE_OF))
        assert claim.holds or claim.got not in accepted, claim
    return [claim.name for claim in error.claims if not claim.holds]


def reason_of(action: object, *arguments: object) -> str:
    assert callable(action)
    with pytest.raises(CcinitError) as caught:
        action(*arguments)
    return caught.value.reason
