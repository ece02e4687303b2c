"""What an appraisal stands on: whatever of it is withdrawn or changed ends it, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import Tee, evidence_needs_request
from guest_owner.kbs.appraisal import AppraisedEvidence
from guest_owner.kbs.references.values import References, RegisteredKey, RegisteredRoot
from guest_owner.kbs.verifiers.table import VERIFIERS
from tests.fakes.network.tls_server import make_authority
from tests.fakes.platforms.snp import der_of
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key
from tests.fakes.platforms.ultravisor import Ultravisor
from tests.unit.guest_owner.kbs import se_values, snp_values, svsm_values, values
from tests.unit.guest_owner.kbs.verifiers import azure_values, tdx_values

STRANGER = der_of(make_authority().certificate)


@dataclass(frozen=True)
class Case:
    evidence: Callable[[], JsonValue]
    references: Callable[[], References]
    report_data: bytes = snp_values.REPORT_DATA


def azure(tee: Tee) -> Case:
    return Case(
        lambda: azure_values.azure_vm(tee).evidence(values.REPORT_DATA),
        azure_values.azure_references,
        values.REPORT_DATA,
    )


TPM = values.booted_tpm(values.reference_set())
CASES = {
    Tee.TPM: Case(
        lambda: TPM.quote(values.REPORT_DATA).to_json_value(),
        lambda: values.references(values.reference_set(), tpm=TPM),
        values.REPORT_DATA,
    ),
    Tee.SNP: Case(
        lambda: snp_values.booted_snp().evidence(snp_values.REPORT_DATA),
        snp_values.snp_references,
    ),
    Tee.TDX: Case(
        lambda: tdx_values.evidence(tdx_values.booted_domain(), tdx_values.LOG),
        tdx_values.tdx_references,
        tdx_values.REPORT_DATA,
    ),
    Tee.AZ_SNP_VTPM: azure(Tee.AZ_SNP_VTPM),
    Tee.AZ_TDX_VTPM: azure(Tee.AZ_TDX_VTPM),
    Tee.SE: Case(
        lambda: se_values.measured(Ultravisor(), se_values.se_request()).to_json_value(),
        se_values.se_references,
        se_values.REPORT_DATA,
    ),
    Tee.SVSM: Case(
        lambda: svsm_values.svsm_evidence().to_json_value(), svsm_values.svsm_references
    ),
}


def test_every_platform_whose_evidence_somebody_vouches_for_is_here() -> None:
    assert set(CASES) == set(VERIFIERS) - {Tee.SAMPLE}


def known_to(tee: Tee) -> References:
    known = CASES[tee].references()
    demands = {demanded.tee: sha256_digest(b"as registered") for demanded in known.requirements}
    return replace(known, demands=demands)


def judged(tee: Tee, known: References) -> AppraisedEvidence:
    case = CASES[tee]
    return VERIFIERS[tee](
        case.evidence(), report_data=case.report_data, initdata_digest=None, references=known
    )


def appraised(tee: Tee, given: References | None = None) -> tuple[References, tuple[bytes, ...]]:
    """What is registered, and who of it vouches."""
    known = given or known_to(tee)
    return known, judged(tee, known).endorsers


def after_all_others(known: References, tee: Tee) -> References:
    """Everything, and before it what is registered for every other platform."""
    others = [known_to(other) for other in CASES if other is not tee]
    return replace(
        known,
        sets=tuple(image for other in others for image in other.sets) + known.sets,
        requirements=tuple(one for other in others for one in other.requirements)
        + known.requirements,
        roots=tuple(root for other in others for root in other.roots) + known.roots,
    )


def without(known: References, der: bytes) -> References:
    """Everything but one key or certificate."""
    return replace(
        known,
        attestation_keys=tuple(key for key in known.attestation_keys if key.public_der != der),
        roots=tuple(
            replace(root, certificates=tuple(one for one in root.certificates if one != der))
            for root in known.roots
        ),
    )


def beside(known: References, tee: Tee) -> References:
    """Everything, under other names, and a key and a certificate more."""
    return replace(
        known,
        attestation_keys=(
            *(replace(key, name="renamed") for key in known.attestation_keys),
            RegisteredKey(name="other", public_der=FakeTpm(key=rsa_key(3)).public_der),
        ),
        roots=(
            RegisteredRoot(name="other", platform=tee, certificates=(STRANGER,)),
            *(replace(root, name="renamed") for root in known.roots),
        ),
    )


@pytest.mark.parametrize("tee", CASES)
def test_appraisal_is_the_same_beside_what_is_registered_for_other_platforms(tee: Tee) -> None:
    known = known_to(tee)
    alone, among = judged(tee, known), judged(tee, after_all_others(known, tee))
    assert among.reference == alone.reference
    assert [claim.name for claim in among.claims] == [claim.name for claim in alone.claims]


@pytest.mark.parametrize("tee", CASES)
def test_appraisal_stands_until_what_it_stands_on_changes(tee: Tee) -> None:
    known, endorsers = appraised(tee)
    basis = known.basis_of(tee, endorsers)
    assert endorsers
    assert known.includes(basis)
    assert beside(known, tee).includes(basis)
    assert without(beside(known, tee), STRANGER).includes(basis)
    for der in endorsers:
        assert not without(known, der).includes(basis)
    moved = replace(known, roots=tuple(replace(root, platform=Tee.SAMPLE) for root in known.roots))
    assert moved.includes(basis) is (tee is Tee.TPM)


@pytest.mark.parametrize("tee", [tee for tee in CASES if CASES[tee].references().requirements])
def test_requirements_that_change_end_what_was_judged_by_them(tee: Tee) -> None:
    known, endorsers = appraised(tee)
    basis = known.basis_of(tee, endorsers)
    other = sha256_digest(b"stricter")
    assert not replace(known, demands={**known.demands, tee: other}).includes(basis)
    assert not replace(known, demands={}).includes(basis)
    (unrelated,) = {Tee.SNP, Tee.TDX} - {tee} if tee in {Tee.SNP, Tee.TDX} else {Tee.SNP}
    assert replace(known, demands={**known.demands, unrelated: other}).includes(basis)


@pytest.mark.parametrize("tee", [tee for tee in CASES if evidence_needs_request(tee)])
def test_request_key_that_changes_ends_what_was_asked_for_with_it(tee: Tee) -> None:
    known, endorsers = appraised(tee)
    basis = known.basis_of(tee, endorsers)
    assert not replace(known, request_key=bytes(32)).includes(basis)
    assert known.request_key is not None
    assert not any(known.request_key.hex() in text for text in basis)


@pytest.mark.parametrize(
    ("tee", "idle"),
    [(Tee.SNP, STRANGER), (Tee.TDX, STRANGER), (Tee.SE, se_values.machine_root(1).certificates[0])],
)
def test_registered_certificates_that_did_not_vouch_may_go(tee: Tee, idle: bytes) -> None:
    known = known_to(tee)
    more = RegisteredRoot(name="more", platform=tee, certificates=(idle,))
    _, endorsers = appraised(tee, replace(known, roots=(more, *known.roots)))
    assert idle not in endorsers
    assert known.includes(known.basis_of(tee, endorsers))
