"""Invariant: SEV-SNP evidence with any change in report or certificates is refused with a
`FormatError` or an `EvidenceRefusedError` and nothing else, or what is signed in it is the same.

Run as `python -m tests.fuzz.fuzz_snp_verifier [SECONDS [SEED]]`.
"""

from ccinit.errors import FormatError
from ccinit.formats.evidence.snp import Certificate, CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import parse_snp_report
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.roots import load_certificate
from guest_owner.kbs.verifiers.snp import verify_evidence
from tests.fakes.platforms.snp import Chain, der_of
from tests.fuzz.fuzz_tdx_verifier import mutate
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.snp_values import REPORT_DATA, booted_snp, snp_references

_CHAIN = Chain()
TRUSTED = snp_references(certificates=(der_of(_CHAIN.ark),))
REPORT = booted_snp().report(REPORT_DATA)
CERTIFICATES = {CertType.VCEK: der_of(_CHAIN.leaf), CertType.ASK: der_of(_CHAIN.ask)}


def judge(report: bytes, certificates: dict[CertType, bytes]) -> bool:
    """Return whether the evidence is accepted; anything but a proper refusal is an error."""
    entries = tuple(Certificate(cert_type=kind, data=der) for kind, der in certificates.items())
    try:
        evidence = SnpEvidence(report=parse_snp_report(report), certificates=entries)
        verify_evidence(
            evidence.to_json_value(),
            report_data=REPORT_DATA,
            initdata_digest=None,
            references=TRUSTED,
        )
    except (FormatError, EvidenceRefusedError):
        return False
    return True


def signed_parts(report: bytes, certificates: dict[CertType, bytes]) -> tuple[bytes, ...]:
    """What the processor signed of its report, and its vendor of each certificate."""
    loaded = (load_certificate(der, "fuzz") for der in certificates.values())
    signed = parse_snp_report(report).signed_bytes
    return signed, *(certificate.tbs_certificate_bytes for certificate in loaded)


def main(seconds: float, seed: int) -> int:
    """Check changed evidence for a while; return how many."""
    assert judge(REPORT, CERTIFICATES)
    trials = Trials(seconds, seed)
    for source in trials:
        report, certificates = REPORT, dict(CERTIFICATES)
        changed = source.choice((None, *CERTIFICATES))
        if changed is None:
            report = mutate(source, REPORT)
        else:
            certificates[changed] = mutate(source, CERTIFICATES[changed])
        if judge(report, certificates):
            assert signed_parts(report, certificates) == signed_parts(REPORT, CERTIFICATES)
    return trials.count


if __name__ == "__main__":
    run(main)
