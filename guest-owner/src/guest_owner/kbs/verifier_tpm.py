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
from ccinit.formats.digest import Digest
from ccinit.formats.sealed_log import BootId
from ccinit.formats.sealed_log import report_data as log_report_data
from ccinit.formats.tpm2 import (
    ALL_SHA256_PCRS,
    TpmsAttest,
    parse_tpms_attest,
    parse_tpmt_signature,
)
from ccinit.formats.tpm_evidence import TpmEvidence
from guest_owner.kbs.appraisal import AppraisedEvidence, Claim, EvidenceRefusedError
from guest_owner.kbs.references import (
    BOOT_PCRS,
    ZERO_PCR,
    References,
    ReferenceSet,
    RegisteredInitdata,
)

TEE = "tpm"
INITDATA_PCR = 8
UNUSED_PCRS = (12, 13, 15)
MIN_KEY_BITS = 2048

_NOTHING = "nothing is registered"


class _Claims:
    """The comparisons made so far, in the order of the steps."""

    def __init__(self) -> None:
        self.made: list[Claim] = []

    def compare(self, name: str, expected: str, got: str, *, holds: bool) -> None:
        self.made.append(Claim(name=name, expected=expected, got=got, holds=holds))

    def fail(self, error: FormatError) -> None:
        self.compare(error.reason, "well-formed", error.detail, holds=False)

    @property
    def all_hold(self) -> bool:
        return all(claim.holds for claim in self.made)


def verify_evidence(
    evidence: TpmEvidence,
    *,
    report_data: bytes,
    initdata_digest: Digest | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 11.

    Args:
        evidence: untrusted.
        report_data: what the quote's extra data has to be, 1 to 64 bytes.
        initdata_digest: of the document that came with the evidence; None if none came: then PCR 8
            has to bind one of the registered documents, which is found by it.
        references: everything that is trusted.

    Raises:
        EvidenceRefusedError: at least one step failed; the reason is the first one's claim.
    """
    claims = _Claims()
    _check_signature(evidence, references, claims)
    _check_quote(evidence, report_data, claims)
    authentic = claims.all_hold
    reference = _check_boot(evidence.pcrs, references.sets, claims)
    initdata = _check_initdata(evidence.pcrs, initdata_digest, references.initdata, claims)
    _check_unused(evidence.pcrs, claims)
    made = tuple(claims.made)
    if reference is None or initdata is None or not claims.all_hold:
        raise EvidenceRefusedError(made, authentic=authentic)
    return AppraisedEvidence(
        reference=reference,
        initdata=initdata,
        pcrs=evidence.pcrs,
        attestation_key_der=evidence.ak_public_der,
        report_data=report_data,
        claims=made,
    )


def verify_log_evidence(
    evidence: TpmEvidence,
    *,
    boot_id: BootId,
    signing_key: bytes,
    references: References,
    initdata_digest: Digest | None = None,
) -> AppraisedEvidence:
    """Make the same steps for the evidence that binds a sealed log's signing key to a guest.

    Args:
        evidence: from record 1 of the stream.
        boot_id: of the stream's header.
        signing_key: the Ed25519 public key of record 1, 32 bytes.
        references: everything that is trusted.
        initdata_digest: of the pod whose log this should be; None accepts any registered one.

    Raises:
        EvidenceRefusedError: as `verify_evidence`.
    """
    return verify_evidence(
        evidence,
        report_data=log_report_data(boot_id, signing_key),
        initdata_digest=initdata_digest,
        references=references,
    )


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


def _check_signature(evidence: TpmEvidence, references: References, claims: _Claims) -> None:
    # Step 1
    try:
        signature = parse_tpmt_signature(evidence.signature).signature
    except FormatError as error:
        claims.fail(error)
        signature = b""
    # Step 2
    claims.compare(
        "ak.unregistered",
        _listed(tuple(_fingerprint(key.public_der) for key in references.attestation_keys)),
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


def _check_quote(evidence: TpmEvidence, report_data: bytes, claims: _Claims) -> None:
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
    pcrs: tuple[bytes, ...], sets: tuple[ReferenceSet, ...], claims: _Claims
) -> ReferenceSet | None:
    """Step 8: compare with the closest set, so that the log shows the fewest differences."""
    closest = max(
        sets,
        key=lambda known: sum(pcrs[index] == known.pcr[index] for index in BOOT_PCRS),
        default=None,
    )
    for index in BOOT_PCRS:
        if closest is None:
            claims.compare(f"pcr.{index}", _NOTHING, pcrs[index].hex(), holds=False)
            continue
        # A ReferenceSet has zero only as PCR 11 of direct boot: equal to it means not zero.
        claims.compare(
            f"pcr.{index}",
            f"{closest.pcr[index].hex()} ({closest.name})",
            pcrs[index].hex(),
            holds=pcrs[index] == closest.pcr[index],
        )
    return closest


def _check_initdata(
    pcrs: tuple[bytes, ...],
    digest: Digest | None,
    listed: tuple[RegisteredInitdata, ...],
    claims: _Claims,
) -> RegisteredInitdata | None:
    register = pcrs[INITDATA_PCR]
    if digest is None:
        found = next((known for known in listed if known.register == register), None)
        got = f"PCR 8 {register.hex()}"
    else:
        # Step 9
        bound = hashlib.sha256(ZERO_PCR + digest.raw).digest()
        claims.compare("pcr.8", bound.hex(), register.hex(), holds=bound == register)
        found = next((known for known in listed if known.digest == digest), None)
        got = str(digest)
    # Step 10
    names = tuple(f"{known.digest} ({known.name})" for known in listed)
    claims.compare("initdata.digest", _listed(names), got, holds=found is not None)
    return found


def _check_unused(pcrs: tuple[bytes, ...], claims: _Claims) -> None:
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


def _listed(values: tuple[str, ...]) -> str:
    if not values:
        return _NOTHING
    return values[0] if len(values) == 1 else "one of " + ", ".join(values)
