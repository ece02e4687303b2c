"""What the tests of an SVSM's vTPM register, and evidence as a guest there makes it.

The keys' public areas are laid out from the templates and a modulus; that they are what a TPM makes
is seen in tests/integration/attestation/test_svsm.py.
"""

import hashlib

from ccinit.formats.evidence.snp import SnpEvidence
from ccinit.formats.evidence.snp_report import parse_snp_report
from ccinit.formats.evidence.svsm import SvsmEvidence, SvsmKeys
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.tcg.tpm2_keys import AK_TEMPLATE, EK_TEMPLATE
from guest_owner.kbs.attestation_requests.svsm import make_svsm_request, open_svsm_secrets
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredRoot
from tests.fakes.platforms.snp import Chain, FakeSnp, der_of
from tests.fakes.platforms.svsm import VTPM, Svsm
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS
from tests.unit.guest_owner.kbs.values import booted_tpm, initdata, reference_set

REPORT_DATA = hashlib.sha512(b"nonce and key").digest()
SEALING_KEY = hashlib.sha256(b"sealing key").digest()
LAUNCH = hashlib.sha384(b"svsm and firmware").digest()
DEMANDED = (
    REQUIREMENTS.decode()
    .replace("version = 1\n", f'version = 1\nparavisor = ["{LAUNCH.hex()}"]\n')
    .encode()
)
IMAGE = reference_set()
EK_NUMBER = 5


def public_area(template: bytes, number: int) -> bytes:
    modulus = rsa_key(number).public_key().public_numbers().n
    return template[:-256] + modulus.to_bytes(256, "big")


def keys(ak: int = 0) -> SvsmKeys:
    """Of a TPM whose attestation key is `rsa_key(ak)`."""
    ek = public_area(EK_TEMPLATE, EK_NUMBER)
    return SvsmKeys(ek=ek, ak=public_area(AK_TEMPLATE, ak))


def svsm_references(*sets: ReferenceSet, request_key: bytes | None = SEALING_KEY) -> References:
    certificates = (*Chain().trusted, der_of(Chain().leaf))
    return References(
        sets=sets or (IMAGE,),
        roots=(RegisteredRoot(name="amd", platform=Tee.SVSM, certificates=certificates),),
        requirements=(parse_requirements(DEMANDED, Tee.SVSM),),
        initdata=(initdata(),),
        request_key=request_key,
    )


def svsm_evidence(
    tpm: FakeTpm | None = None, *, report_data: bytes = REPORT_DATA, **report_fields: bytes | int
) -> SvsmEvidence:
    """What a guest answers whose TPM has opened its credential."""
    named, tpm = keys(), tpm or booted_tpm(IMAGE)
    request = make_svsm_request(named, SEALING_KEY)
    snp = FakeSnp().with_fields(**{"measurement": LAUNCH} | report_fields)
    svsm = Svsm(snp=snp, manifest=named.ek)
    report, manifest = svsm.attest(VTPM, report_data)
    return SvsmEvidence(
        snp=SnpEvidence(report=parse_snp_report(report), certificates=()),
        tpm=tpm.quote(report_data),
        manifest=manifest,
        ak=named.ak,
        activated=open_svsm_secrets(SEALING_KEY, request.sealed).content,
        sealed=request.sealed,
    )
