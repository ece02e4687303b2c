"""TPM quotes against what the owner registered: the steps that the verifiers of all vTPMs share.

Which key may quote depends on the platform (`tpm`: a registered one; `azure`: one that the hardware
vouches for). Claims: `quote.signature`, `quote.report_data`, `quote.selection`, `quote.pcr_digest`,
`pcr.…`, `initdata.digest`, `tpm2.…`; `tpm` beside this says what each means. Formats:
`ccinit.formats.tcg.tpm2` (TPM 2.0 Library, part 2).
"""

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.tcg.tpm2 import (
    ALL_SHA256_PCRS,
    TpmsAttest,
    parse_tpms_attest,
    parse_tpmt_signature,
)
from guest_owner.kbs.appraisal import NOTHING, ClaimList
from guest_owner.kbs.references.measurements.image import BOOT_PCRS, ZERO_PCR, TpmMeasurements
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredInitdata
from guest_owner.kbs.verifiers.document import check_document, check_register

INITDATA_PCR = 8
UNUSED_PCRS = (12, 13, 15)
MIN_KEY_BITS = 2048

Pcrs = tuple[bytes, ...]
"""The 24 values of the SHA-256 bank."""


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


def read_signature(encoded: bytes, claims: ClaimList) -> bytes:
    """Make step 1: return the bare signature, empty if `encoded` is malformed."""
    try:
        return parse_tpmt_signature(encoded)
    except FormatError as error:
        claims.fail(error)
        return b""


def check_signature(
    name: str, public_der: bytes, signature: bytes, message: bytes, claims: ClaimList
) -> None:
    """Make step 3 as claim `name`; whether that key may quote is a claim of the caller's."""
    holds, got = True, "verifies"
    try:
        key = parse_attestation_key(public_der)
        key.verify(signature, message, PKCS1v15(), SHA256())
    except FormatError as error:
        holds, got = False, error.detail
    except InvalidSignature:
        holds, got = False, "does not verify"
    claims.compare(name, "verifies", got, holds=holds)


def check_quote(message: bytes, pcrs: Pcrs, report_data: bytes, claims: ClaimList) -> None:
    """Make steps 4 to 7: the message is the quote that was asked for, over these registers."""
    # Step 4
    try:
        quote = parse_tpms_attest(message)
    except FormatError as error:
        claims.fail(error)
        return
    # Step 5
    claims.compare_bytes("quote.report_data", report_data, quote.extra_data)
    # Step 6
    claims.compare(
        "quote.selection",
        "sha256:0-23",
        _selection_text(quote),
        holds=quote.pcr_selections == (ALL_SHA256_PCRS,),
    )
    # Step 7
    digest = hashlib.sha256(b"".join(pcrs)).digest()
    claims.compare_bytes("quote.pcr_digest", digest, quote.pcr_digest)


def check_registers(
    pcrs: Pcrs, initdata_digest: bytes | None, references: References, claims: ClaimList
) -> tuple[ReferenceSet | None, RegisteredInitdata | None]:
    """Make steps 8 to 11; return the image and the document, as far as they are registered."""
    reference = _check_boot(pcrs, references.sets, claims)
    initdata = _check_initdata(pcrs, initdata_digest, references.initdata, claims)
    _check_unused(pcrs, claims)
    return reference, initdata


def pcr_claims(pcrs: Pcrs) -> dict[str, str]:
    """Return the registers as Trustee's verifiers of vTPMs name them."""
    return {f"pcr{index:02}": value.hex() for index, value in enumerate(pcrs)}


def measured_pcrs(pcrs: Pcrs) -> dict[str, str]:
    """Return the registers for the audit log."""
    return {str(index): value.hex() for index, value in enumerate(pcrs)}


def _check_boot(
    pcrs: Pcrs, sets: tuple[ReferenceSet, ...], claims: ClaimList
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
        # In TpmMeasurements only PCR 11 of direct boot is zero, so equality implies "not zero".
        claims.compare(
            f"pcr.{index}",
            f"{measured.pcr[index].hex()} ({closest.name})",
            pcrs[index].hex(),
            holds=pcrs[index] == measured.pcr[index],
        )
    return closest


def _check_initdata(
    pcrs: Pcrs,
    digest: bytes | None,
    listed: tuple[RegisteredInitdata, ...],
    claims: ClaimList,
) -> RegisteredInitdata | None:
    # Steps 9 and 10; without a document PCR 8 selects one.
    register = pcrs[INITDATA_PCR]
    if digest is None:
        return check_register(register, listed, claims)
    bound = hashlib.sha256(ZERO_PCR + digest).digest()
    claims.compare_bytes("pcr.8", bound, register)
    return check_document(Tee.TPM, digest, listed, claims)


def _check_unused(pcrs: Pcrs, claims: ClaimList) -> None:
    # Step 11
    for index in UNUSED_PCRS:
        claims.compare_bytes(f"pcr.{index}", ZERO_PCR, pcrs[index])


def _selection_text(quote: TpmsAttest) -> str:
    banks = (
        f"{bank.algorithm.name.lower()}:{','.join(str(pcr) for pcr in bank.pcrs)}"
        for bank in quote.pcr_selections
    )
    complete = quote.pcr_selections == (ALL_SHA256_PCRS,)
    return "sha256:0-23" if complete else " ".join(banks) or "no bank"
