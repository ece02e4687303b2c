"""What the tests of the TDX verifier register, a domain that is as registered, and its verdicts."""

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.references.measurements.tdx import PredictedEvent, TdxMeasurements
from guest_owner.kbs.references.tdx_requirements import TdxRequirements, TdxTcb
from guest_owner.kbs.references.values import (
    Profile,
    References,
    ReferenceSet,
    RegisteredRoot,
    register_initdata,
)
from guest_owner.kbs.verifiers.tdx import verify_evidence
from tests.fakes.platforms.tdx_boot import FakeBoot, image, replayed
from tests.fakes.platforms.tdx_quote import FMSPC, QE_SIGNER, FakePck, FakeTdx, measurement

DOCUMENT = b'algorithm = "sha384"\nversion = "0.1.0"\n\n[data]\n'
DIGEST = hashlib.sha384(DOCUMENT).digest()
LOG = FakeBoot().log
REPORT_DATA = hashlib.sha384(b"nonce and key").digest().ljust(64, b"\0")
TCB = TdxTcb(
    fmspc=(FMSPC,),
    tee_tcb_svn=bytes((4, 1, 2)) + bytes(13),
    cpu_svn=bytes((7, 7, 2, 2, 3, 1, 0, 3)) + bytes(8),
    pce_svn=13,
    qe_mrsigner=QE_SIGNER,
    qe_isv_svn=4,
)
DEMANDED = TdxRequirements(
    xfam=0x0602E7, td_attributes=1 << 28, mrseam=(measurement("TDX module"),), tcb=TCB
)
REQUIREMENTS_TOML = f"""\
version = 1
xfam = "00000000000602e7"
td_attributes = "0000000010000000"
mrseam = ["{measurement("TDX module").hex()}"]

[tcb]
fmspc = ["{FMSPC.hex()}"]
tee_tcb_svn = "{TCB.tee_tcb_svn.hex()}"
cpu_svn = "{TCB.cpu_svn.hex()}"
pce_svn = 13
qe_mrsigner = "{QE_SIGNER.hex()}"
qe_isv_svn = 4
"""


def tdx_reference(name: str = "image-1") -> ReferenceSet:
    events = image(name)
    return ReferenceSet(
        name=name,
        profile=Profile.PROD,
        measured=TdxMeasurements(
            mrtd=measurement("firmware"),
            rtmr1=replayed(events, 1),
            rtmr2=replayed(events, 2),
            events={
                rtmr: tuple(
                    PredictedEvent(digest=event.digest, subject=f"RTMR {rtmr} of {name}")
                    for event in events
                    if event.register == rtmr + 1
                )
                for rtmr in (1, 2)
            },
        ),
    )


def root_of(pck: FakePck) -> RegisteredRoot:
    return RegisteredRoot(
        name="intel",
        platform=Tee.TDX,
        certificates=(pck.root_certificate.public_bytes(Encoding.DER),),
    )


def tdx_references(*sets: ReferenceSet) -> References:
    return References(
        sets=sets or (tdx_reference(),),
        roots=(root_of(FakePck()),),
        requirements=(DEMANDED,),
        initdata=(register_initdata("shop", DOCUMENT),),
    )


def booted_domain(boot: FakeBoot | None = None) -> FakeTdx:
    """A domain as a guest of image-1 with the registered document leaves it."""
    domain = FakeTdx(mrconfigid=hashlib.sha384(DOCUMENT).digest())
    return (boot or FakeBoot()).apply(domain)


def evidence(
    domain: FakeTdx, log: bytes | None, report_data: bytes = REPORT_DATA
) -> dict[str, JsonValue]:
    return {
        "quote": encode_base64(domain.quote(report_data)),
        "cc_eventlog": None if log is None else encode_base64(log),
    }


def verify(
    given_evidence: JsonValue,
    trusted: References | None = None,
    digest: bytes | None = DIGEST,
) -> AppraisedEvidence:
    return verify_evidence(
        given_evidence,
        report_data=REPORT_DATA,
        initdata_digest=digest,
        references=trusted or tdx_references(),
    )


def refusal(
    given_evidence: JsonValue,
    trusted: References | None = None,
    digest: bytes | None = DIGEST,
) -> EvidenceRefusedError:
    with pytest.raises(EvidenceRefusedError) as caught:
        verify(given_evidence, trusted, digest)
    return caught.value


def got(error: EvidenceRefusedError) -> str:
    return next(claim.got for claim in error.claims if not claim.holds)
