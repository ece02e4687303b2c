"""What a token and the audit log say of each platform, member by member.

Relying parties read these: the names are those of Trustee's verifiers, the values the hardware's.
"""

import hashlib
from base64 import b64encode

import pytest

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.snp_report import parse_snp_report
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers.snp import report_claims
from guest_owner.kbs.verifiers.table import VERIFIERS
from guest_owner.kbs.verifiers.tdx import quote_claims
from tests.fakes.platforms.azure import PARAVISOR, encode_claims
from tests.fakes.platforms.snp import CHIP_ID, FakeSnp, tcb
from tests.fakes.platforms.tdx_quote import FakeTdx, measurement
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.fakes.platforms.ultravisor import HEADER, Ultravisor
from tests.unit.guest_owner.kbs import se_values, snp_values, svsm_values, values
from tests.unit.guest_owner.kbs.verifiers import tdx_values
from tests.unit.guest_owner.kbs.verifiers.azure_values import azure_references, azure_vm

REPORT_DATA = hashlib.sha512(b"nonce and key").digest()


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def appraise(tee: Tee, evidence: JsonValue, registered: References) -> AppraisedEvidence:
    return VERIFIERS[tee](
        evidence, report_data=REPORT_DATA, initdata_digest=None, references=registered
    )


def registers(tpm: FakeTpm) -> dict[str, str]:
    assert len(tpm.pcrs) == 24
    return {str(index): value.hex() for index, value in enumerate(tpm.pcrs)}


def as_claims(tpm: FakeTpm) -> dict[str, str]:
    return {f"pcr{int(index):02}": value for index, value in registers(tpm).items()}


def of_snp(
    measurement: bytes, host_data: bytes = bytes(32), report_data: bytes = REPORT_DATA
) -> dict[str, object]:
    """The claims about a processor and a policy as they are registered."""
    return {
        "measurement": base64(measurement),
        "report_data": base64(report_data),
        "init_data": base64(host_data),
        "policy_abi_major": "0",
        "policy_abi_minor": "0",
        "policy_smt_allowed": "true",
        "policy_migrate_ma": "false",
        "policy_debug_allowed": "false",
        "policy_single_socket": "false",
        "platform_smt_enabled": "true",
        "platform_tsme_enabled": "false",
        "reported_tcb_bootloader": "4",
        "reported_tcb_tee": "0",
        "reported_tcb_snp": "24",
        "reported_tcb_microcode": "219",
    }


def of_processor(measurement: bytes) -> dict[str, str]:
    """What the audit log has about it."""
    return {
        "measurement": measurement.hex(),
        "chip_id": CHIP_ID.hex(),
        "reported_tcb": "bootloader 4, tee 0, snp 24, microcode 219",
    }


def test_guest_on_snp_is_described_by_its_report() -> None:
    evidence = snp_values.booted_snp().evidence(REPORT_DATA)
    appraised = appraise(Tee.SNP, evidence, snp_values.snp_references())
    launched = snp_values.MEASUREMENT
    assert appraised.token_claims == of_snp(launched, snp_values.HOST_DATA)
    host_data = {"host_data": snp_values.HOST_DATA.hex()}
    assert appraised.measured == {"snp": of_processor(launched) | host_data}


@pytest.mark.parametrize(
    ("fields", "differing"),
    [
        ({"policy": 0}, {"policy_smt_allowed": "false"}),
        ({"policy": 1 << 16 | 1 << 18}, {"policy_migrate_ma": "true"}),
        ({"policy": 1 << 16 | 1 << 19}, {"policy_debug_allowed": "true"}),
        ({"policy": 1 << 16 | 1 << 20}, {"policy_single_socket": "true"}),
        ({"policy": 1 << 16 | 0xFF00}, {"policy_abi_major": "255"}),
        ({"policy": 1 << 16 | 0x00FF}, {"policy_abi_minor": "255"}),
        ({"plat_info": 0}, {"platform_smt_enabled": "false"}),
        ({"plat_info": 3}, {"platform_tsme_enabled": "true"}),
        ({"reported_tcb": tcb(5, 0, 24, 219)}, {"reported_tcb_bootloader": "5"}),
        ({"reported_tcb": tcb(4, 7, 24, 219)}, {"reported_tcb_tee": "7"}),
        ({"reported_tcb": tcb(4, 0, 25, 219)}, {"reported_tcb_snp": "25"}),
        ({"reported_tcb": tcb(4, 0, 24, 220)}, {"reported_tcb_microcode": "220"}),
    ],
)
def test_each_bit_and_level_of_a_report_has_a_claim_of_its_own(
    fields: dict[str, bytes | int], differing: dict[str, str]
) -> None:
    report = parse_snp_report(FakeSnp().with_fields(**fields).report(REPORT_DATA))
    assert report_claims(report) == of_snp(hashlib.sha384(b"image-1").digest()) | differing


def of_tdx(domain: FakeTdx, report_data: bytes, *, debug: bool = False) -> dict[str, object]:
    """The claims about a domain; numbers are in the order of the quote's bytes."""
    return {
        "quote": {
            "header": {
                "version": "0400",
                "att_key_type": "0200",
                "tee_type": "81000000",
                "vendor_id": "939a7233f79c4ca9940a0db3957f0607",
            },
            "body": {
                "tcb_svn": domain.tee_tcb_svn.hex(),
                "mr_seam": domain.mrseam.hex(),
                "mrsigner_seam": domain.mrsignerseam.hex(),
                "seam_attributes": domain.seam_attributes.to_bytes(8, "little").hex(),
                "td_attributes": domain.td_attributes.to_bytes(8, "little").hex(),
                "xfam": "e702060000000000",
                "mr_td": domain.mrtd.hex(),
                "mr_config_id": domain.mrconfigid.hex(),
                "mr_owner": domain.mrowner.hex(),
                "mr_owner_config": domain.mrownerconfig.hex(),
                "rtmr_0": domain.rtmrs[0].hex(),
                "rtmr_1": domain.rtmrs[1].hex(),
                "rtmr_2": domain.rtmrs[2].hex(),
                "rtmr_3": domain.rtmrs[3].hex(),
                "report_data": report_data.hex(),
            },
        },
        "td_attributes": {"debug": debug},
    }


def test_guest_on_tdx_is_described_by_its_quote() -> None:
    domain = tdx_values.booted_domain()
    evidence = tdx_values.evidence(domain, tdx_values.LOG, REPORT_DATA)
    appraised = appraise(Tee.TDX, evidence, tdx_values.tdx_references())
    assert appraised.token_claims == of_tdx(domain, REPORT_DATA)
    assert appraised.measured == {
        "td": {"mrtd": domain.mrtd.hex()},
        "rtmr": {str(index): value.hex() for index, value in enumerate(domain.rtmrs)},
    }


def test_each_field_of_a_quote_has_a_claim_of_its_own() -> None:
    """Registered guests have many of them zero."""
    domain = FakeTdx(
        mrsignerseam=measurement("signer"),
        mrconfigid=measurement("document"),
        mrowner=measurement("owner"),
        mrownerconfig=measurement("owner's configuration"),
        seam_attributes=1 << 40,
        td_attributes=1 << 28 | 1,
        rtmrs=[measurement(f"register {index}") for index in range(4)],
    )
    said = quote_claims(parse_tdx_quote(domain.quote(REPORT_DATA)))
    assert said == of_tdx(domain, REPORT_DATA, debug=True)


def test_guest_with_a_tpm_is_described_by_its_registers() -> None:
    image = values.reference_set()
    tpm = values.booted_tpm(image)
    evidence = tpm.quote(REPORT_DATA).to_json_value()
    appraised = appraise(Tee.TPM, evidence, values.references(image, tpm=tpm))
    assert appraised.token_claims == as_claims(tpm) | {"ak_public": base64(tpm.public_der)}
    assert appraised.measured == {"pcr": registers(tpm)}


def test_guest_on_azure_is_described_by_its_hardware_and_its_registers() -> None:
    """The hardware's report data is a digest of the paravisor's claims."""
    snp, tdx = azure_vm(Tee.AZ_SNP_VTPM), azure_vm(Tee.AZ_TDX_VTPM)
    modulus = snp.tpm.key.public_key().public_numbers().n.to_bytes(256, "big")
    hcl_data = hashlib.sha256(encode_claims(modulus, REPORT_DATA)).digest().ljust(64, b"\0")
    on_snp = appraise(Tee.AZ_SNP_VTPM, snp.evidence(REPORT_DATA), azure_references())
    on_tdx = appraise(Tee.AZ_TDX_VTPM, tdx.evidence(REPORT_DATA), azure_references())
    assert isinstance(tdx.hardware, FakeTdx)
    assert on_snp.token_claims == of_snp(PARAVISOR, report_data=hcl_data) | {
        "tpm": as_claims(snp.tpm)
    }
    assert on_tdx.token_claims == of_tdx(tdx.hardware, hcl_data) | {"tpm": as_claims(tdx.tpm)}
    assert on_snp.measured == {"pcr": registers(snp.tpm), "snp": of_processor(PARAVISOR)}
    assert on_tdx.measured == {"pcr": registers(tdx.tpm), "td": {"mrtd": PARAVISOR.hex()}}


def test_guest_below_an_svsm_is_described_by_its_report_and_its_registers() -> None:
    tpm = values.booted_tpm(svsm_values.IMAGE)
    evidence = svsm_values.svsm_evidence(tpm, report_data=REPORT_DATA)
    appraised = appraise(Tee.SVSM, evidence.to_json_value(), svsm_values.svsm_references())
    bound = hashlib.sha512(REPORT_DATA + evidence.manifest).digest()
    said = of_snp(svsm_values.LAUNCH, report_data=bound) | {"tpm": as_claims(tpm)}
    assert appraised.token_claims == said
    assert appraised.measured == {
        "pcr": registers(tpm),
        "snp": of_processor(svsm_values.LAUNCH),
    }


def test_guest_in_secure_execution_is_described_by_what_its_ultravisor_says() -> None:
    machine = Ultravisor(unpacked_by=1)
    roots = (se_values.machine_root(0), se_values.machine_root(1))
    evidence = se_values.measured(machine, se_values.se_request())
    appraised = appraise(Tee.SE, evidence.to_json_value(), se_values.se_references(roots=roots))
    said = {
        "cuid": machine.config_uid.hex(),
        "report_data": REPORT_DATA.hex(),
        "image_phkh": machine.key_hash(1).hex(),
        "attestation_phkh": machine.key_hash(0).hex(),
        "tag": HEADER["tag"].hex(),
    }
    assert appraised.token_claims == said | {"version": 0x100}
    assert appraised.measured == {"se": said}
