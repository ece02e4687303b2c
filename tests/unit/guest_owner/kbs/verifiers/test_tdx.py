"""One refusal for each step of the module docstring, each quote signed by a whole chain of its own,
so that only the named check can refuse; beside evidence that passes all of them.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import decode_base64, encode_base64
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.values import References, RegisteredRoot
from tests.fakes.platforms.tdx_quote import (
    FakePck,
    FakeTdx,
    measurement,
    p256_key,
    raw_public_key,
)
from tests.unit.guest_owner.kbs.values import failed, reference_set
from tests.unit.guest_owner.kbs.verifiers.tdx_values import (
    DEMANDED,
    DIGEST,
    DOCUMENT,
    LOG,
    REPORT_DATA,
    TCB,
    booted_domain,
    evidence,
    got,
    refusal,
    tdx_reference,
    tdx_references,
    verify,
)

INTEL_ROOT = Path("tests/vectors/intel/sgx-root-ca.pem")
STEPS = [
    "quote.vendor",
    "qe.signature",
    "qe.report_data",
    "quote.signature",
    "quote.report_data",
    "pck.fmspc",
    "pck.ppid",
    "pck.cpu_svn",
    "pck.pce_svn",
    "qe.mrsigner",
    "qe.product",
    "qe.attributes",
    "qe.isv_svn",
    "td.mrsignerseam",
    "td.seam_attributes",
    "td.mrseam",
    "td.tee_tcb_svn",
    "td.debug",
    "td.attributes",
    "td.xfam",
    "td.mrtd",
    "rtmr.1",
    "rtmr.2",
    "rtmr.0",
    "rtmr.3",
    "td.mrconfigid",
    "initdata.digest",
    "td.mrowner",
    "td.mrownerconfig",
]


def test_evidence_as_registered_is_appraised() -> None:
    domain = booted_domain()
    appraised = verify(evidence(domain, LOG))
    assert appraised.tee is Tee.TDX
    assert appraised.reference.name == "image-1"
    assert appraised.initdata.name == "shop"
    assert appraised.initdata_field == DIGEST
    assert [claim.name for claim in appraised.claims] == STEPS
    assert appraised.measured["rtmr"] == {
        str(index): value.hex() for index, value in enumerate(domain.rtmrs)
    }
    assert appraised.measured["td"] == {"mrtd": domain.mrtd.hex()}


@pytest.mark.parametrize("body_type", [2, 3])
def test_version_5_is_appraised_alike(body_type: int) -> None:
    domain = booted_domain()
    domain.version, domain.body_type = 5, body_type
    names = [claim.name for claim in verify(evidence(domain, LOG)).claims]
    assert names == (STEPS if body_type == 2 else [*STEPS[:16], "td.tee_tcb_svn", *STEPS[16:],
                                                   "td.mrservicetd"])  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", 3, "tdx_quote.version"),
        ("key_type", 3, "tdx_quote.key_type"),
        ("tee_type", 0, "tdx_quote.tee_type"),
        ("tail", b"x", "tdx_quote.trailing"),
    ],
)
def test_step_1_what_is_no_quote_of_a_domain_is_refused(
    field: str, value: object, reason: str
) -> None:
    domain = booted_domain()
    setattr(domain, field, value)
    with pytest.raises(FormatError) as caught:
        verify(evidence(domain, LOG))
    assert caught.value.reason == reason


PCK = FakePck()
QE_ATTRIBUTES = FakeTdx().qe_attributes
ONE_FIELD = [
    ("vendor", bytes(16), "quote.vendor"),
    ("pck", FakePck(fmspc=bytes(6)), "pck.fmspc"),
    ("pck", FakePck(components=(6, *PCK.components[1:])), "pck.cpu_svn"),
    ("pck", FakePck(components=(*PCK.components[:7], 2, *PCK.components[8:])), "pck.cpu_svn"),
    ("pck", FakePck(pce_svn=12), "pck.pce_svn"),
    ("qe_report_signer", "another key", "qe.signature"),
    ("qe_binding", bytes(32), "qe.report_data"),
    ("quote_signer", "another key", "quote.signature"),
    ("qe_signer", bytes(32), "qe.mrsigner"),
    ("qe_product", 1, "qe.product"),
    ("qe_attributes", bytes((0x13,)) + QE_ATTRIBUTES[1:], "qe.attributes"),
    ("qe_misc_select", 1, "qe.attributes"),
    ("qe_svn", 3, "qe.isv_svn"),
    ("mrsignerseam", measurement("not Intel"), "td.mrsignerseam"),
    ("seam_attributes", 1, "td.seam_attributes"),
    ("mrseam", measurement("another module"), "td.mrseam"),
    ("tee_tcb_svn", bytes((3, 1, 2)) + bytes(13), "td.tee_tcb_svn"),
    ("tee_tcb_svn", bytes((5, 0, 2)) + bytes(13), "td.tee_tcb_svn"),
    ("td_attributes", 0, "td.attributes"),
    ("td_attributes", 1 << 28 | 1 << 29, "td.attributes"),
    ("td_attributes", 1 << 28 | 1 << 63, "td.attributes"),
    ("xfam", 0x0602E6, "td.xfam"),
    ("mrtd", measurement("another firmware"), "td.mrtd"),
    ("mrtd", bytes(48), "td.mrtd"),
    ("mrconfigid", measurement("the host's document"), "td.mrconfigid"),
    ("mrconfigid", bytes(48), "td.mrconfigid"),
    ("mrconfigid", hashlib.sha256(DOCUMENT).digest().ljust(48, b"\0"), "td.mrconfigid"),
    ("mrowner", measurement("owner"), "td.mrowner"),
    ("mrownerconfig", measurement("owner"), "td.mrownerconfig"),
]


@pytest.mark.parametrize(
    ("field", "value", "reason"), ONE_FIELD, ids=[f"{row[0]}-{row[2]}" for row in ONE_FIELD]
)
def test_one_changed_field_is_refused_by_name(field: str, value: object, reason: str) -> None:
    domain = booted_domain()
    setattr(domain, field, value)
    error = refusal(evidence(domain, LOG))
    assert failed(error) == [reason]
    assert error.reason == reason
    assert error.authentic is (not reason.startswith(("quote.", "qe.signature", "qe.report_data")))


def test_machine_that_the_owner_revoked_is_refused() -> None:
    given = evidence(booted_domain(), LOG)
    trusted = tdx_references()
    revoked = replace(DEMANDED, tcb=replace(TCB, revoked_ppids=frozenset((PCK.ppid,))))
    assert failed(refusal(given, replace(trusted, requirements=(revoked,)))) == ["pck.ppid"]
    others = replace(DEMANDED, tcb=replace(TCB, revoked_ppids=frozenset((PCK.ppid[::-1],))))
    assert verify(given, replace(trusted, requirements=(others,)))


def test_image_is_found_among_the_registered_ones() -> None:
    others = tdx_reference("image-0"), tdx_reference("image-2")
    among = tdx_references(others[0], tdx_reference(), others[1])
    assert verify(evidence(booted_domain(), LOG), among).reference.name == "image-1"
    assert failed(refusal(evidence(booted_domain(), LOG), tdx_references(*others))) == [
        *("rtmr.1", "rtmr.2")
    ]


def test_debuggable_domain_is_refused_by_that_name() -> None:
    domain = booted_domain()
    domain.td_attributes |= 1
    assert failed(refusal(evidence(domain, LOG))) == ["td.debug", "td.attributes"]


def test_oldest_quoting_enclave_that_is_allowed_is_appraised() -> None:
    domain = booted_domain()
    assert domain.qe_svn > TCB.qe_isv_svn
    domain.qe_svn = TCB.qe_isv_svn
    assert verify(evidence(domain, LOG)).reference.name == "image-1"


def test_newer_versions_than_registered_are_appraised() -> None:
    domain = booted_domain()
    domain.pck = FakePck(pce_svn=14, components=tuple(one + 1 for one in PCK.components))
    domain.qe_svn, domain.tee_tcb_svn = 99, bytes((9, 1, 3)) + bytes(13)
    assert verify(evidence(domain, LOG)).reference.name == "image-1"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("tee_tcb_svn_2", bytes((3, 1, 2)) + bytes(13), "td.tee_tcb_svn"),
        ("mrservicetd", measurement("a migration domain"), "td.mrservicetd"),
    ],
)
def test_one_changed_field_of_tdx_1_5_is_refused(field: str, value: bytes, reason: str) -> None:
    domain = booted_domain()
    domain.version, domain.body_type = 5, 3
    setattr(domain, field, value)
    assert failed(refusal(evidence(domain, LOG))) == [reason]


@pytest.mark.parametrize(
    "pck",
    [
        pytest.param(FakePck(root="the host's own root"), id="another root"),
        pytest.param(FakePck(intermediate_issuer="forger"), id="forged intermediate"),
        pytest.param(FakePck(intermediate_is_ca=False), id="intermediate that is no authority"),
        pytest.param(FakePck(days=1), id="expired"),
    ],
)
def test_step_2_chain_that_does_not_hold_is_refused(pck: FakePck) -> None:
    domain = booted_domain()
    domain.pck = pck
    error = refusal(evidence(domain, LOG))
    assert failed(error) == ["pck.chain", "qe.signature"]
    assert not error.authentic


def test_step_2_root_of_another_platform_does_not_speak_for_tdx() -> None:
    trusted = tdx_references()
    root = replace(trusted.roots[0], platform=Tee.SNP)
    error = refusal(evidence(booted_domain(), LOG), replace(trusted, roots=(root,)))
    assert failed(error) == ["pck.chain", "qe.signature"]
    assert got(error) == "no root of the vendor is registered"


def test_step_2_the_real_root_refuses_a_generated_chain() -> None:
    certificates = parse_certificates(INTEL_ROOT.read_bytes())
    root = RegisteredRoot(name="intel", platform=Tee.TDX, certificates=certificates)
    error = refusal(evidence(booted_domain(), LOG), replace(tdx_references(), roots=(root,)))
    assert failed(error) == ["pck.chain", "qe.signature"]


def test_step_5_key_that_is_no_point_of_the_curve_signs_nothing() -> None:
    quote = bytearray(QUOTE)
    key = raw_public_key(p256_key("attestation key"))
    (at,) = [match.start() for match in re.finditer(re.escape(key), quote)]
    quote[at : at + len(key)] = bytes(len(key))
    error = refusal({"quote": encode_base64(bytes(quote)), "cc_eventlog": encode_base64(LOG)})
    assert failed(error) == ["qe.report_data", "quote.signature"]
    assert error.claims[3].got == "no key to verify it with"


def test_step_6_other_report_data_is_refused() -> None:
    for report_data in (hashlib.sha384(b"another nonce").digest(), REPORT_DATA[:47], bytes(64)):
        error = refusal(evidence(booted_domain(), LOG, report_data))
        assert failed(error) == ["quote.report_data"]
        assert not error.authentic


def test_step_7_certificate_without_the_extension_is_refused() -> None:
    domain = booted_domain()

    class Plain(FakePck):
        def extension(self) -> bytes:
            return b"\x30\x00"

    domain.pck = Plain()
    assert failed(refusal(evidence(domain, LOG))) == ["pck.extension"]


def test_step_14_document_that_is_not_listed_is_refused() -> None:
    document = DOCUMENT + b"# the host's pod\n"
    domain = booted_domain()
    domain.mrconfigid = hashlib.sha384(document).digest()
    error = refusal(evidence(domain, LOG), digest=domain.mrconfigid)
    assert failed(error) == ["initdata.digest"]


def test_step_14_without_a_document_mrconfigid_selects_a_listed_one() -> None:
    assert verify(evidence(booted_domain(), LOG), digest=None).initdata.name == "shop"
    domain = booted_domain()
    domain.mrconfigid = bytes(48)
    assert failed(refusal(evidence(domain, LOG), digest=None)) == ["initdata.digest"]


@pytest.mark.parametrize("sets", [(), (reference_set(),)], ids=["nothing", "another platform's"])
def test_nothing_registered_for_tdx_is_refused(sets: tuple[object, ...]) -> None:
    trusted = References(sets=sets, roots=tdx_references().roots)  # type: ignore[arg-type]
    error = refusal(evidence(booted_domain(), LOG), trusted)
    assert failed(error) == ["td.requirements", "td.mrtd", "initdata.digest"]


def test_step_7_platform_without_requirements_is_refused() -> None:
    error = refusal(evidence(booted_domain(), LOG), replace(tdx_references(), requirements=()))
    assert failed(error) == ["td.requirements"]


def test_refusal_collects_every_difference() -> None:
    domain = booted_domain()
    domain.qe_svn, domain.mrtd, domain.mrowner = 1, bytes(48), measurement("owner")
    assert failed(refusal(evidence(domain, LOG))) == ["qe.isv_svn", "td.mrtd", "td.mrowner"]


QUOTE = decode_base64(evidence(booted_domain(), LOG)["quote"], "quote")
CHAIN_BYTES = len(FakePck().chain_pem) + 1


@given(data=st.data())
@settings(max_examples=150)
def test_any_changed_byte_of_the_quote_is_refused(data: st.DataObject) -> None:
    # The reserved and user bytes of the header are signed like everything else; PEM has spellings.
    position = data.draw(st.integers(0, len(QUOTE) - CHAIN_BYTES - 1))
    changed = bytearray(QUOTE)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((EvidenceRefusedError, FormatError)):
        verify({"quote": encode_base64(bytes(changed)), "cc_eventlog": encode_base64(LOG)})


def test_the_real_root_is_the_published_one() -> None:
    (der,) = parse_certificates(INTEL_ROOT.read_bytes())
    # Intel publishes the certificate under this fingerprint.
    assert hashlib.sha256(der).hexdigest() == (
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    )
    assert FakePck().root_certificate.public_bytes(Encoding.DER) != der
