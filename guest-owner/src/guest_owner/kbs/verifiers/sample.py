"""Appraisal of `sample` evidence, which proves nothing: for a KBS without anybody's secrets.

It is refused unless the owner registered a reference set for the platform, which must have the
profile `test`; so a policy rule for `prod` releases nothing to it. Format: Trustee,
`deps/verifier/src/sample` (`{"svn": TEXT, "report_data": BASE64}`).

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

    1. It has the form [`sample_evidence.…`].
    2. Report data is the expected, whole [`sample.report_data`].
    3. The version is one of a registered set [`sample.svn`].
    4. The document that came with it is on the owner's list [`initdata.digest`]. Nothing binds it:
       it is the sender's word, and evidence that came without one selects none.

No step makes the values authentic, so a refusal never claims that they are.
"""

from dataclasses import replace

from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, encode_base64
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList, list_known
from guest_owner.kbs.references.measurements.sample import SampleMeasurements
from guest_owner.kbs.references.values import References, ReferenceSet
from guest_owner.kbs.verifiers.document import check_document

_MAX_SVN_BYTES = 64
_MAX_REPORT_DATA_TEXT_BYTES = 128


def verify_evidence(
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 4, as a `guest_owner.kbs.appraisal.Verifier`; report data: 48 or 64 bytes.

    Raises:
        FormatError: `sample_evidence.…`.
        EvidenceRefusedError: at least one step failed.
    """
    # Step 1
    with Fields(evidence, "sample_evidence") as fields:
        svn = fields.text("svn", max_bytes=_MAX_SVN_BYTES)
        text = fields.text("report_data", max_bytes=_MAX_REPORT_DATA_TEXT_BYTES)
    got = decode_base64(text, "sample_evidence.report_data")
    claims = ClaimList()
    # Step 2
    claims.compare_bytes("sample.report_data", report_data, got)
    reference = _check_svn(svn, references.sets, claims)
    # Step 4
    initdata = check_document(Tee.SAMPLE, initdata_digest, references.initdata, claims)
    image, document = claims.settle(reference, initdata, authentic=False)
    return AppraisedEvidence(
        tee=Tee.SAMPLE,
        reference=image,
        initdata=document,
        initdata_field=b"",
        report_data=report_data,
        measured={"sample": {"svn": svn}},
        token_claims={"svn": svn, "report_data": encode_base64(got)},
        claims=tuple(claims.made),
        endorsers=(),
    )


def _check_svn(svn: str, sets: tuple[ReferenceSet, ...], claims: ClaimList) -> ReferenceSet | None:
    # Step 3
    listed = [
        (known, known.measured.svns)
        for known in sets
        if isinstance(known.measured, SampleMeasurements)
    ]
    named = next((known for known, svns in listed if svn in svns), None)
    found = None if named is None else replace(named, measured=SampleMeasurements(svns=(svn,)))
    names = tuple(f"a version of {known.name}" for known, _ in listed)
    claims.compare("sample.svn", list_known(names), svn, holds=found is not None)
    return found
