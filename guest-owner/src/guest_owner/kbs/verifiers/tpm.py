"""Appraisal of `tpm` evidence: a TPM 2.0 quote against what the owner registered.

Pure: bytes and registrations in, `AppraisedEvidence` or `EvidenceRefusedError` out. Formats are
`ccinit.formats.tcg.tpm2` and `tpm_evidence` (TPM 2.0 Library, part 2); which resource an appraised
guest may get is `guest_owner.kbs.policy`.

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

     1. The signature is a well-formed TPMT_SIGNATURE, RSASSA with SHA-256 [`tpm2.…`].
     2. The attestation key is registered: its SubjectPublicKeyInfo equals a registered one
        [`ak.unregistered`].
     3. The signature over the message verifies with that key [`quote.signature`].
     4. The message is a TPMS_ATTEST that a TPM generated, of type quote [`tpm2.…`].
     5. Its extra data is the expected report data, whole [`quote.report_data`].
     6. It covers exactly all 24 registers of exactly the sha256 bank [`quote.selection`].
     7. Its digest is SHA-256 over the 24 values that came with it [`quote.pcr_digest`].
     8. PCR 4, 9 and 11 equal *one* registered reference set and are not zero; where that set says
        direct boot, PCR 11 is zero instead [`pcr.4`, `pcr.9`, `pcr.11`].
     9. PCR 8 is exactly one extend of the initdata document's SHA-256 [`pcr.8`].
    10. That digest, of the whole document, is on the owner's list [`initdata.digest`].
    11. PCR 12, 13 and 15 are zero: no command line, extension image or credential was added, and
        debug was never opened [`pcr.12`, `pcr.13`, `pcr.15`].

Steps 1 to 7 make the registers authentic; 8 to 11 judge them. PCR 14, the guest's event log,
changes as the guest runs and is not judged. All steps are made even after one fails, because an
owner in search of the reason wants the whole list; evidence is accepted only if all of them hold.
"""

import hashlib

from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.evidence.tpm import TpmEvidence, parse_tpm_evidence
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList, list_known
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers.tpm_quote import (
    INITDATA_PCR,
    check_quote,
    check_registers,
    check_signature,
    measured_pcrs,
    pcr_claims,
    read_signature,
)


def verify_evidence(
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 11, as a `guest_owner.kbs.appraisal.Verifier`; report data: 1 to 64 bytes.

    Raises:
        FormatError: `tpm_evidence.…`.
        EvidenceRefusedError: at least one step failed.
    """
    quote = parse_tpm_evidence(evidence)
    claims = ClaimList()
    _check_signature(quote, references, claims)
    check_quote(quote.message, quote.pcrs, report_data, claims)
    authentic = claims.all_hold
    reference, initdata = check_registers(quote.pcrs, initdata_digest, references, claims)
    image, document = claims.settle(reference, initdata, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.TPM,
        reference=image,
        initdata=document,
        initdata_field=quote.pcrs[INITDATA_PCR],
        report_data=report_data,
        measured={"pcr": measured_pcrs(quote.pcrs)},
        token_claims={
            **pcr_claims(quote.pcrs),
            "ak_public": encode_base64(quote.ak_public_der),
        },
        claims=tuple(claims.made),
        endorsers=(quote.ak_public_der,),
    )


def _check_signature(evidence: TpmEvidence, references: References, claims: ClaimList) -> None:
    # Step 1
    signature = read_signature(evidence.signature, claims)
    # Step 2
    claims.compare(
        "ak.unregistered",
        list_known(tuple(_fingerprint(key.public_der) for key in references.attestation_keys)),
        _fingerprint(evidence.ak_public_der),
        holds=any(key.public_der == evidence.ak_public_der for key in references.attestation_keys),
    )
    # Step 3, with a key that step 2 has found equal to a registered one.
    check_signature("quote.signature", evidence.ak_public_der, signature, evidence.message, claims)


def _fingerprint(public_der: bytes) -> str:
    return f"sha256:{hashlib.sha256(public_der).hexdigest()}"
