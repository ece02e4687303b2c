"""Appraisal of `tpm` evidence: a TPM 2.0 quote against what the owner registered.

Pure: bytes and registrations in, `AppraisedEvidence` or `EvidenceRefusedError` out. Formats are
`ccinit.formats.tpm2` and `tpm_evidence` (TPM 2.0 Library, part 2); which resource an appraised
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

Steps 1 to 7 make the registers authentic; 8 to 11 judge them. PCR 14 is the guest's event log and
changes as it runs. All steps are made even after one fails, because the owner who looks for the
reason wants the whole list; the outcome is decided by all of them together.
"""

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ccinit.errors import FormatError
from ccinit.formats.strict_json import JsonValue, encode_base64
from ccinit.formats.tee import Tee
from ccinit.formats.tpm2 import (
    ALL_SHA256_PCRS,
    TpmsAttest,
    parse_tpms_attest,
    parse_tpmt_signature,
)
from ccinit.formats.tpm_evidence import TpmEvidence, parse_tpm_evidence
from guest_owner.kbs.appraisal import (
    NOTHING,
    AppraisedEvidence,
    ClaimList,
    EvidenceRefusedError,
    list_known,
)
from guest_owner.kbs.measurements import BOOT_PCRS, ZERO_PCR, TpmMeasurements
from guest_owner.kbs.references import References, ReferenceSet, RegisteredInitdata

INITDATA_PCR = 8
UNUSED_PCRS = (12, 13, 15)
MIN_KEY_BITS = 2048


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
    _check_quote(quote, report_data, claims)
    authentic = claims.all_hold
    reference = _check_boot(quote.pcrs, references.sets, claims)
    initdata = _check_initdata(quote.pcrs, initdata_digest, references.initdata, claims)
    _check_unused(quote.pcrs, claims)
    made = tuple(claims.made)
    if reference is None or initdata is None or not claims.all_hold:
        raise EvidenceRefusedError(made, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.TPM,
        reference=reference,
        initdata=initdata,
        initdata_field=quote.pcrs[INITDATA_PCR],
        report_data=report_data,
        measured={"pcr": {str(index): value.hex() for index, value in enumerate(quote.pcrs)}},
        token_claims=_token_claims(quote),
        claims=made,
    )


def _token_claims(quote: TpmEvidence) -> dict[str, JsonValue]:
    claims: dict[str, JsonValue] = {
        f"pcr{index:02}": value.hex() for index, value in enumerate(quote.pcrs)
    }
    return {**claims, "ak_public": encode_base64(quote.ak_public_der)}


def parse_attestation_key(public_der: bytes) -> RSAPublicKey:
    """Return the RSA key of a SubjectPublicKeyInfo.

    Raises:
        FormatError: `ak.form`, not an RSA key of at least 2048 bits.
    """
    try:
        key = load_der_public_key(public_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError("ak.form", "not a DER SubjectPublicKeyInfo") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise FormatError("ak.form", f"expected an RSA key of at least {MIN_KEY_BITS} bits")
    return key


def _check_signature(evidence: TpmEvidence, references: References, claims: ClaimList) -> None:
    # Step 1
    try:
        signature = parse_tpmt_signature(evidence.signature).signature
    except FormatError as error:
        claims.fail(error)
        signature = b""
    # Step 2
    claims.compare(
        "ak.unregistered",
        list_known(tuple(_fingerprint(key.public_der) for key in references.attestation_keys)),
        _fingerprint(evidence.ak_public_der),
        holds=any(key.public_der == evidence.ak_public_der for key in references.attestation_keys),
    )
    # Step 3: with the key of the evidence, which step 2 has found equal to a registered one.
    holds, got = True, "verifies"
    try:
        key = parse_attestation_key(evidence.ak_public_der)
        key.verify(signature, evidence.message, PKCS1v15(), SHA256())
    except FormatError as error:
        holds, got = False, error.detail
    except InvalidSignature:
        holds, got = False, "does not verify"
    claims.compare("quote.signature", "verifies", got, holds=holds)


def _check_quote(evidence: TpmEvidence, report_data: bytes, claims: ClaimList) -> None:
    # Step 4
    try:
        quote = parse_tpms_attest(evidence.message)
    except FormatError as error:
        claims.fail(error)
        return
    # Step 5
    claims.compare(
        "quote.report_data",
        report_data.hex(),
        quote.extra_data.hex(),
        holds=quote.extra_data == report_data,
    )
    # Step 6
    claims.compare(
        "quote.selection",
        "sha256:0-23",
        _selection_text(quote),
        holds=quote.pcr_selections == (ALL_SHA256_PCRS,),
    )
    # Step 7
    digest = hashlib.sha256(b"".join(evidence.pcrs)).digest()
    claims.compare(
        "quote.pcr_digest", digest.hex(), quote.pcr_digest.hex(), holds=digest == quote.pcr_digest
    )


def _check_boot(
    pcrs: tuple[bytes, ...], sets: tuple[ReferenceSet, ...], claims: ClaimList
) -> ReferenceSet | None:
    """Step 8: compare with the closest set, so that the log shows the fewest differences."""
    candidates = [
        (known, known.measured) for known in sets if isinstance(known.measured, TpmMeasurements)
    ]
    closest, measured = max(
        candidates,
        key=lambda pair: sum(pcrs[index] == pair[1].pcr[index] for index in BOOT_PCRS),
        default=(None, None),
    )
    for index in BOOT_PCRS:
        if closest is None or measured is None:
            claims.compare(f"pcr.{index}", NOTHING, pcrs[index].hex(), holds=False)
            continue
        # TpmMeasurements have zero only as PCR 11 of direct boot: equal to it means not zero.
        claims.compare(
            f"pcr.{index}",
            f"{measured.pcr[index].hex()} ({closest.name})",
            pcrs[index].hex(),
            holds=pcrs[index] == measured.pcr[index],
        )
    return closest


def _check_initdata(
    pcrs: tuple[bytes, ...],
    digest: bytes | None,
    listed: tuple[RegisteredInitdata, ...],
    claims: ClaimList,
) -> RegisteredInitdata | None:
    register = pcrs[INITDATA_PCR]
    if digest is None:
        found = next((known for known in listed if known.register == register), None)
        got = f"PCR 8 {register.hex()}"
    else:
        # Step 9
        bound = hashlib.sha256(ZERO_PCR + digest).digest()
        claims.compare("pcr.8", bound.hex(), register.hex(), holds=bound == register)
        found = next((known for known in listed if known.digest.raw == digest), None)
        got = f"sha256:{digest.hex()}"
    # Step 10
    names = tuple(f"{known.digest} ({known.name})" for known in listed)
    claims.compare("initdata.digest", list_known(names), got, holds=found is not None)
    return found


def _check_unused(pcrs: tuple[bytes, ...], claims: ClaimList) -> None:
    # Step 11
    for index in UNUSED_PCRS:
        claims.compare(
            f"pcr.{index}", ZERO_PCR.hex(), pcrs[index].hex(), holds=pcrs[index] == ZERO_PCR
        )


def _selection_text(quote: TpmsAttest) -> str:
    banks = (
        f"{bank.algorithm.name.lower()}:{','.join(str(pcr) for pcr in bank.pcrs)}"
        for bank in quote.pcr_selections
    )
    complete = quote.pcr_selections == (ALL_SHA256_PCRS,)
    return "sha256:0-23" if complete else " ".join(banks) or "no bank"


def _fingerprint(public_der: bytes) -> str:
    return f"sha256:{hashlib.sha256(public_der).hexdigest()}"
