"""Appraisal of `se` evidence: an ultravisor's measurement against what the owner registered.

Pure: bytes and registrations in, `AppraisedEvidence` or `EvidenceRefusedError` out. Formats are
`ccinit.formats.evidence.se`; requests and their keys are `guest_owner.kbs.attestation_requests.se`.

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

    1. The request is one that this KBS made: its secrets open [`se.request`].
    2. The measurement is the HMAC by that request's key over a registered image's header, this
       guest's id, its user data, the request's nonce and the additional data [`se.measurement`].
    3. The machines that unpacked the image and the request are registered: the additional data are
       exactly their two hashes [`se.additional`, `se.image_host_key`,
       `se.attestation_host_key`].
    4. User data are the expected report data, whole, and a digest [`se.user_data`,
       `se.report_data`].
    5. That digest is the initdata document's SHA-384, which is on the owner's list [`se.initdata`,
       `initdata.digest`].

Steps 1 to 4 make the evidence authentic. The HMAC is checked for each registered image; one for an
unregistered image cannot be told from garbage. The image's tags that come along with the evidence
are ignored. The header covers the image, its command line and the flags that let a host dump the
guest.
"""

import hashlib
import hmac

from ccinit.errors import VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.se import (
    INITDATA_BYTES,
    REPORT_DATA_BYTES,
    SeEvidence,
    measured_items,
    parse_se_evidence,
)
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList, list_known
from guest_owner.kbs.attestation_requests.se import (
    ADDITIONAL_BYTES,
    HASH_BYTES,
    RequestSecrets,
    hash_host_key,
    open_secrets,
    read_host_key,
)
from guest_owner.kbs.references.measurements.se import SeMeasurements
from guest_owner.kbs.references.values import References, ReferenceSet
from guest_owner.kbs.verifiers.document import check_bound_document

_VERSION = 0x100  # of requests, as Trustee's verifier tells it


def verify_evidence(
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 5, as a `guest_owner.kbs.appraisal.Verifier`; report data: 64 bytes.

    Raises:
        FormatError: `se_evidence.…`, `se.host_key`.
        EvidenceRefusedError: at least one step failed.
    """
    parsed, claims = parse_se_evidence(evidence), ClaimList()
    secrets = _open(parsed, references.request_key, claims)
    reference = _check_measurement(parsed, secrets, references.sets, claims)
    machines = _check_machines(parsed.additional, references, claims)
    stated = _check_user_data(parsed.user_data, report_data, claims)
    authentic = claims.all_hold
    # Step 5
    initdata = check_bound_document(
        Tee.SE, "se.initdata", stated, initdata_digest, references.initdata, claims
    )
    image, document = claims.settle(reference, initdata, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.SE,
        reference=image,
        initdata=document,
        initdata_field=stated,
        report_data=report_data,
        measured={"se": _measured(parsed, image)},
        token_claims={**_measured(parsed, image), "version": _VERSION},
        claims=tuple(claims.made),
        endorsers=machines,
    )


def _open(
    evidence: SeEvidence, sealing_key: bytes | None, claims: ClaimList
) -> RequestSecrets | None:
    # Step 1
    secrets, got = None, "opens"
    try:
        secrets = open_secrets(sealing_key, evidence.sealed_key, evidence.sealed_nonce)
    except VerificationError as error:
        got = error.detail
    claims.compare("se.request", "opens", got, holds=secrets is not None)
    return secrets


def _check_measurement(
    evidence: SeEvidence,
    secrets: RequestSecrets | None,
    sets: tuple[ReferenceSet, ...],
    claims: ClaimList,
) -> ReferenceSet | None:
    # Step 2
    listed = [
        (known, known.measured.header_tags)
        for known in sets
        if isinstance(known.measured, SeMeasurements)
    ]
    found = None
    if secrets is not None:
        found = next((known for known, tags in listed if _measures(evidence, secrets, tags)), None)
    names = tuple(f"that of {known.name}" for known, _ in listed)
    claims.compare(
        "se.measurement", list_known(names), evidence.measurement.hex(), holds=found is not None
    )
    return found


def _measures(evidence: SeEvidence, secrets: RequestSecrets, header_tags: bytes) -> bool:
    items = measured_items(evidence, header_tags, secrets.nonce)
    expected = hmac.new(secrets.measurement_key, items, hashlib.sha512).digest()
    return hmac.compare_digest(expected, evidence.measurement)


def _check_machines(
    additional: bytes, references: References, claims: ClaimList
) -> tuple[bytes, ...]:
    """Make step 3; return the certificates of the two machines, as far as they are registered."""
    known = {
        hash_host_key(read_host_key(certificate)): (root.name, certificate)
        for root in references.roots_of(Tee.SE)
        for certificate in root.certificates
    }
    found = []
    claims.compare(
        "se.additional",
        f"{ADDITIONAL_BYTES} bytes",
        f"{len(additional)} bytes",
        holds=len(additional) == ADDITIONAL_BYTES,
    )
    expected = list_known(tuple(f"{hash_.hex()} ({name})" for hash_, (name, _) in known.items()))
    for index, name in enumerate(("se.image_host_key", "se.attestation_host_key")):
        got = additional[index * HASH_BYTES : (index + 1) * HASH_BYTES]
        claims.compare(name, expected, got.hex(), holds=got in known)
        if got in known:
            found.append(known[got][1])
    return tuple(found)


def _check_user_data(user_data: bytes, report_data: bytes, claims: ClaimList) -> bytes:
    # Step 4
    size = REPORT_DATA_BYTES + INITDATA_BYTES
    claims.compare(
        "se.user_data", f"{size} bytes", f"{len(user_data)} bytes", holds=len(user_data) == size
    )
    claims.compare_bytes("se.report_data", report_data, user_data[:REPORT_DATA_BYTES])
    return user_data[REPORT_DATA_BYTES:]


def _measured(evidence: SeEvidence, reference: ReferenceSet) -> dict[str, str]:
    """Return the claims of Trustee's `se` verifier, as far as they are values of the guest."""
    tag = reference.measured.tag if isinstance(reference.measured, SeMeasurements) else b""
    return {
        "cuid": evidence.config_uid.hex(),
        "report_data": evidence.user_data[:REPORT_DATA_BYTES].hex(),
        "image_phkh": evidence.additional[:HASH_BYTES].hex(),
        "attestation_phkh": evidence.additional[HASH_BYTES:].hex(),
        "tag": tag.hex(),
    }
