"""What the tests of Secure Execution register: one image, one pod, one machine."""

import hashlib

from ccinit.formats.evidence.se import (
    SeEvidence,
    SeRequest,
    encode_user_data,
    parse_se_request,
)
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.attestation_requests.se import make_se_nonce
from guest_owner.kbs.references.measurements.se import SeMeasurements
from guest_owner.kbs.references.values import Profile, References, ReferenceSet, RegisteredRoot
from tests.fakes.platforms.snp import der_of
from tests.fakes.platforms.ultravisor import HEADER, Ultravisor, host_key_document
from tests.unit.guest_owner.kbs.values import DOCUMENT, initdata

REPORT_DATA = hashlib.sha512(b"nonce and key").digest()
INITDATA = hashlib.sha384(DOCUMENT).digest()
SEALING_KEY = hashlib.sha256(b"sealing key").digest()


def se_image(name: str = "se-image", profile: Profile = Profile.PROD) -> ReferenceSet:
    header = HEADER if name == "se-image" else {**HEADER, "tag": name.encode().ljust(16)[:16]}
    return ReferenceSet(name=name, profile=profile, measured=SeMeasurements(**header))


def machine_root(number: int = 0) -> RegisteredRoot:
    document = der_of(host_key_document(number))
    return RegisteredRoot(name=f"machine-{number}", platform=Tee.SE, certificates=(document,))


def se_references(
    *sets: ReferenceSet,
    roots: tuple[RegisteredRoot, ...] | None = None,
    request_key: bytes | None = SEALING_KEY,
) -> References:
    return References(
        sets=sets or (se_image(),),
        roots=(machine_root(),) if roots is None else roots,
        initdata=(initdata(),),
        request_key=request_key,
    )


def se_request(number: int = 0) -> SeRequest:
    """What a guest on that machine is asked."""
    asked = make_se_nonce(se_references(roots=(machine_root(number),)))
    return parse_se_request(asked.encode())


def measured(
    ultravisor: Ultravisor, request: SeRequest, user_data: bytes | None = None
) -> SeEvidence:
    """What a guest on this machine answers."""
    user_data = encode_user_data(REPORT_DATA, INITDATA) if user_data is None else user_data
    codes, answer = ultravisor._attest(request.blob, user_data, 64, request.additional_bytes)
    assert answer is not None, codes
    return SeEvidence(
        measurement=answer[0],
        additional=answer[1],
        user_data=user_data,
        config_uid=ultravisor.config_uid,
        sealed_key=request.sealed_key,
        sealed_nonce=request.sealed_nonce,
        header_tags=request.header_tags,
    )
