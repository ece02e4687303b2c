"""The claim `initdata.digest`: on every platform what is expected is written as what was got."""

import hashlib
from collections.abc import Callable

import pytest

from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.evidence.se import encode_user_data
from ccinit.formats.evidence.tee import Tee, initdata_binding, report_data_for, report_hash
from guest_owner.kbs.appraisal import Claim, ClaimList
from guest_owner.kbs.references.measurements.sample import SampleMeasurements
from guest_owner.kbs.references.values import (
    Profile,
    References,
    ReferenceSet,
    register_initdata,
)
from guest_owner.kbs.verifiers.document import NO_DOCUMENT, check_document, check_register
from guest_owner.kbs.verifiers.table import VERIFIERS
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.fakes.platforms.ultravisor import Ultravisor
from tests.unit.guest_owner.kbs.se_values import INITDATA as SE_DOCUMENT_DIGEST
from tests.unit.guest_owner.kbs.se_values import measured, se_references, se_request
from tests.unit.guest_owner.kbs.snp_values import booted_snp, snp_references
from tests.unit.guest_owner.kbs.svsm_values import svsm_evidence, svsm_references
from tests.unit.guest_owner.kbs.values import (
    DOCUMENT,
    booted_tpm,
    initdata,
    reference_set,
    references,
)
from tests.unit.guest_owner.kbs.verifiers import tdx_values
from tests.unit.guest_owner.kbs.verifiers.azure_values import azure_references, azure_vm

SAMPLE = ReferenceSet(name="any", profile=Profile.TEST, measured=SampleMeasurements(svns=("1",)))


def made_tpm(data: bytes) -> tuple[JsonValue, References]:
    tpm = booted_tpm(reference_set())
    return tpm.quote(data).to_json_value(), references(reference_set(), tpm=tpm)


def made_tdx(data: bytes) -> tuple[JsonValue, References]:
    boot = FakeBoot()
    domain = tdx_values.booted_domain(boot)
    return tdx_values.evidence(domain, boot.log, data), tdx_values.tdx_references()


def made_sample(data: bytes) -> tuple[JsonValue, References]:
    value: JsonValue = {"svn": "1", "report_data": encode_base64(data)}
    return value, References(sets=(SAMPLE,), initdata=(initdata(),))


MAKERS: dict[Tee, Callable[[bytes], tuple[JsonValue, References]]] = {
    Tee.TPM: made_tpm,
    Tee.SNP: lambda data: (booted_snp().evidence(data), snp_references()),
    Tee.TDX: made_tdx,
    Tee.AZ_SNP_VTPM: lambda data: (azure_vm(Tee.AZ_SNP_VTPM).evidence(data), azure_references()),
    Tee.AZ_TDX_VTPM: lambda data: (azure_vm(Tee.AZ_TDX_VTPM).evidence(data), azure_references()),
    Tee.SE: lambda data: (
        measured(
            Ultravisor(), se_request(), encode_user_data(data, SE_DOCUMENT_DIGEST)
        ).to_json_value(),
        se_references(),
    ),
    Tee.SVSM: lambda data: (svsm_evidence(report_data=data).to_json_value(), svsm_references()),
    Tee.SAMPLE: made_sample,
}
"""Genuine evidence of each platform, and what makes it accepted."""


@pytest.mark.parametrize("tee", VERIFIERS)
def test_expected_and_got_of_accepted_evidence_are_one_text(tee: Tee) -> None:
    data = report_data_for(tee, hashlib.new(report_hash(tee), b"nonce and key").digest())
    evidence, trusted = MAKERS[tee](data)
    algorithm = initdata_binding(tee).algorithm
    document = tdx_values.DOCUMENT if tee is Tee.TDX else DOCUMENT
    digest = hashlib.new(algorithm, document).digest()
    appraised = VERIFIERS[tee](
        evidence, report_data=data, initdata_digest=digest, references=trusted
    )
    (claim,) = (claim for claim in appraised.claims if claim.name == "initdata.digest")
    assert claim.got == f"{algorithm}:{digest.hex()}"
    assert claim.expected == f"{claim.got} (shop)"


def test_document_that_is_not_listed_is_named_as_those_that_are() -> None:
    claims = ClaimList()
    listed = (initdata("shop"), register_initdata("bank", b"another"))
    assert check_document(Tee.TDX, b"\xab" * 48, listed, claims) is None
    (claim,) = claims.made
    first, second = (known.sha384.hex() for known in listed)
    assert claim == Claim(
        name="initdata.digest",
        expected=f"one of sha384:{first} (shop), sha384:{second} (bank)",
        got=f"sha384:{'ab' * 48}",
        holds=False,
    )


def test_evidence_that_binds_nothing_selects_no_document() -> None:
    claims = ClaimList()
    assert check_document(Tee.SAMPLE, None, (initdata(),), claims) is None
    assert (claims.made[0].got, claims.made[0].holds) == (NO_DOCUMENT, False)


@pytest.mark.parametrize("register", [initdata().register, bytes(32)])
def test_register_without_a_document_is_compared_with_registers(register: bytes) -> None:
    claims = ClaimList()
    found = check_register(register, (initdata(),), claims)
    assert (found is None) == (register != initdata().register)
    (claim,) = claims.made
    assert claim.expected == f"PCR 8 {initdata().register.hex()} (shop)"
    assert claim.got == f"PCR 8 {register.hex()}"
