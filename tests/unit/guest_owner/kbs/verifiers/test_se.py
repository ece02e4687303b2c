"""Each step of the appraisal of Secure Execution, refused by its own name."""

import hashlib
import os
from collections.abc import Callable

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.evidence.se import SeEvidence, encode_user_data
from ccinit.values import replace
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers.se import verify_evidence
from tests.fakes.platforms.ultravisor import HEADER, Ultravisor
from tests.unit.guest_owner.kbs.se_values import (
    INITDATA,
    REPORT_DATA,
    machine_root,
    measured,
    se_image,
    se_references,
    se_request,
)
from tests.unit.guest_owner.kbs.values import failed

OTHER = hashlib.sha384(b"another document").digest()


def appraise(
    evidence: SeEvidence,
    *,
    references: References | None = None,
    digest: bytes | None = INITDATA,
    report_data: bytes = REPORT_DATA,
) -> AppraisedEvidence:
    return verify_evidence(
        evidence.to_json_value(),
        report_data=report_data,
        initdata_digest=digest,
        references=references or se_references(),
    )


def refused(evidence: SeEvidence, **arguments: object) -> EvidenceRefusedError:
    with pytest.raises(EvidenceRefusedError) as caught:
        appraise(evidence, **arguments)  # type: ignore[arg-type]
    return caught.value


def test_measured_guest_is_accepted() -> None:
    machine = Ultravisor()
    appraised = appraise(measured(machine, se_request()))
    assert (appraised.reference.name, appraised.initdata.name) == ("se-image", "shop")
    assert appraised.initdata_field == INITDATA
    assert appraised.measured["se"]["cuid"] == machine.config_uid.hex()
    assert appraised.measured["se"]["tag"] == HEADER["tag"].hex()
    assert appraised.token_claims["image_phkh"] == machine.key_hash(0).hex()


def test_document_is_found_by_what_the_guest_states() -> None:
    evidence = measured(Ultravisor(), se_request())
    assert appraise(evidence, digest=None).initdata.name == "shop"
    stranger = measured(Ultravisor(), se_request(), encode_user_data(REPORT_DATA, OTHER))
    assert failed(refused(stranger, digest=None)) == ["initdata.digest"]


CHANGES: dict[str, tuple[Callable[[SeEvidence], SeEvidence], list[str]]] = {
    "measurement": (lambda old: replace(old, measurement=bytes(64)), ["se.measurement"]),
    "id": (lambda old: replace(old, config_uid=bytes(16)), ["se.measurement"]),
    "user data": (
        lambda old: replace(old, user_data=encode_user_data(REPORT_DATA, OTHER)),
        ["se.measurement", "se.initdata"],
    ),
    "report data": (
        lambda old: replace(old, user_data=encode_user_data(bytes(64), INITDATA)),
        ["se.measurement", "se.report_data"],
    ),
    "machine": (
        lambda old: replace(old, additional=2 * Ultravisor.key_hash(1)),
        ["se.measurement", "se.image_host_key", "se.attestation_host_key"],
    ),
    "request": (
        lambda old: replace(old, sealed_key=os.urandom(92)),
        ["se.request", "se.measurement"],
    ),
    "another request's key": (
        lambda old: replace(old, sealed_key=se_request().sealed_key),
        ["se.measurement"],
    ),
    "another request's nonce": (
        lambda old: replace(old, sealed_nonce=se_request().sealed_nonce),
        ["se.measurement"],
    ),
    "key as nonce": (
        lambda old: replace(old, sealed_nonce=old.sealed_key),
        ["se.request", "se.measurement"],
    ),
    "short seal": (lambda old: replace(old, sealed_key=b"k"), ["se.request", "se.measurement"]),
}


@pytest.mark.parametrize(("change", "names"), CHANGES.values(), ids=CHANGES)
def test_every_changed_field_is_refused_by_name(
    change: Callable[[SeEvidence], SeEvidence], names: list[str]
) -> None:
    evidence = measured(Ultravisor(), se_request())
    assert appraise(evidence)
    error = refused(change(evidence))
    assert failed(error) == names
    assert not error.authentic


def test_tags_that_came_along_decide_nothing() -> None:
    evidence = measured(Ultravisor(), se_request())
    assert appraise(replace(evidence, header_tags=b"x" * 208)).reference.name == "se-image"


@pytest.mark.parametrize("part", ["pld", "ald", "tld", "tag"])
def test_image_that_is_not_registered_is_refused(part: str) -> None:
    size = len(HEADER[part])
    stranger = Ultravisor(header={**HEADER, part: b"x" * size})
    evidence = replace(measured(stranger, se_request()), header_tags=b"".join(HEADER.values()))
    assert failed(refused(evidence)) == ["se.measurement"]


def test_each_registered_image_is_told() -> None:
    other = se_image("se-image-2")
    trusted = se_references(se_image(), other)
    machine = Ultravisor(header={**HEADER, "tag": b"se-image-2".ljust(16)})
    assert appraise(measured(machine, se_request()), references=trusted).reference == other
    assert appraise(measured(Ultravisor(), se_request()), references=trusted)


def test_statement_of_another_document_is_authentic_and_refused() -> None:
    evidence = measured(Ultravisor(), se_request(), encode_user_data(REPORT_DATA, OTHER))
    error = refused(evidence)
    assert failed(error) == ["se.initdata"]
    assert error.authentic
    assert failed(refused(evidence, digest=OTHER)) == ["initdata.digest"]


@pytest.mark.parametrize("user_data", [REPORT_DATA, REPORT_DATA + INITDATA[:32], b""])
def test_statement_of_another_length_is_refused(user_data: bytes) -> None:
    error = refused(measured(Ultravisor(), se_request(), user_data))
    assert failed(error)[0] == "se.user_data"
    assert not error.authentic


def test_longer_statement_is_refused() -> None:
    whole = encode_user_data(REPORT_DATA, INITDATA)
    assert failed(refused(measured(Ultravisor(), se_request(), whole + b"\0")))[0] == "se.user_data"
    assert appraise(measured(Ultravisor(), se_request(), whole))


def test_machine_that_is_not_registered_is_refused() -> None:
    both = se_references(roots=(machine_root(0), machine_root(1)))
    unpacked_elsewhere = measured(Ultravisor(unpacked_by=1), se_request())
    assert failed(refused(unpacked_elsewhere)) == ["se.image_host_key"]
    assert appraise(unpacked_elsewhere, references=both)
    answered_elsewhere = measured(Ultravisor(machine=1, unpacked_by=0), se_request(1))
    assert failed(refused(answered_elsewhere)) == ["se.attestation_host_key"]
    assert appraise(answered_elsewhere, references=both)


def test_without_registrations_nothing_is_accepted() -> None:
    evidence = measured(Ultravisor(), se_request())
    assert failed(refused(evidence, references=se_references(request_key=None)))[0] == "se.request"
    assert failed(refused(evidence, references=se_references(request_key=bytes(32)))) == [
        "se.request",
        "se.measurement",
    ]
    assert failed(refused(evidence, references=se_references(roots=()))) == [
        "se.image_host_key",
        "se.attestation_host_key",
    ]


def test_additional_data_of_another_size_are_refused() -> None:
    class Talkative(Ultravisor):
        def _attest(self, arcb: bytes, user_data: bytes, meas_len: int, add_len: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            codes, answer = super()._attest(arcb, user_data, meas_len, add_len)
            opened = self.open(arcb)
            assert answer is not None
            assert opened is not None
            more = answer[1] + b"more"
            return codes, (self.measure(*opened, user_data, more), more)

    assert failed(refused(measured(Talkative(), se_request()))) == ["se.additional"]


def test_other_evidence_is_none() -> None:
    with pytest.raises(CcinitError) as caught:
        verify_evidence(
            {"quote": ""}, report_data=REPORT_DATA, initdata_digest=None, references=se_references()
        )
    assert caught.value.reason == "se_evidence.members"
