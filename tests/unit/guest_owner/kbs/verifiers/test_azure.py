"""One refusal for each step of the module docstring, beside evidence that passes all of them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from ccinit import values
from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.evidence.tpm import TpmEvidence
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers.table import VERIFIERS
from tests.fakes.platforms.azure import AzureVm
from tests.fakes.platforms.snp import Chain, FakeSnp
from tests.fakes.platforms.tdx_quote import FakePck, FakeTdx, measurement
from tests.fakes.platforms.tpm_quote import rsa_key
from tests.unit.guest_owner.kbs.values import DOCUMENT, register
from tests.unit.guest_owner.kbs.values import failed as failed_claims
from tests.unit.guest_owner.kbs.verifiers.azure_values import azure_references, azure_vm

SNP, TDX = Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM
BOTH = pytest.mark.parametrize("tee", [SNP, TDX])
REPORT_DATA = hashlib.sha384(b"nonce and key").digest()
DIGEST = hashlib.sha256(DOCUMENT).digest()
CLAIMS_AT = 32 + 1184 + 20
Change = Callable[[AzureVm], AzureVm]


def verify(
    tee: Tee, vm: AzureVm, trusted: References | None = None, digest: bytes | None = DIGEST
) -> AppraisedEvidence:
    return VERIFIERS[tee](
        vm.evidence(REPORT_DATA),
        report_data=REPORT_DATA,
        initdata_digest=digest,
        references=trusted or azure_references(),
    )


def failed(tee: Tee, vm: AzureVm, trusted: References | None = None) -> tuple[list[str], bool]:
    """The claims that do not hold, and whether the evidence is authentic nevertheless."""
    with pytest.raises(EvidenceRefusedError) as caught:
        verify(tee, vm, trusted)
    return failed_claims(caught.value), caught.value.authentic


@BOTH
def test_registered_image_on_a_registered_paravisor_is_accepted(tee: Tee) -> None:
    appraised = verify(tee, azure_vm(tee))
    assert (appraised.tee, appraised.reference.name) == (tee, "image-1")
    assert appraised.initdata.name == "shop"
    assert appraised.initdata_field == appraised.initdata.register
    assert appraised.measured["pcr"]["8"] == appraised.initdata.register.hex()


@BOTH
def test_document_is_found_by_its_register(tee: Tee) -> None:
    assert verify(tee, azure_vm(tee), digest=None).initdata.name == "shop"


def pcr(index: int, vm: AzureVm) -> AzureVm:
    vm.tpm.pcrs[index] = register("other")
    return vm


def requoted(vm: AzureVm) -> AzureVm:
    """Registers are changed after they were quoted."""
    honest = vm.tpm.quote

    def quote(extra_data: bytes, **more: Any) -> TpmEvidence:
        return values.replace(honest(extra_data, **more), pcrs=(b"x" * 32, *vm.tpm.pcrs[1:]))

    vm.tpm.quote = quote  # type: ignore[method-assign]
    return vm


def spoiled_claims(report: bytes) -> bytes:
    return report[:CLAIMS_AT] + report[CLAIMS_AT:].replace(b"tpm-enabled", b"tpm-enabLed")


def test_changes_are_made_where_they_are_said_to_be() -> None:
    text = azure_vm(SNP).report(bytes(64), b'{"tpm-enabled":1}')
    assert spoiled_claims(text) == text[:CLAIMS_AT] + b'{"tpm-enabLed":1}'


@BOTH
@pytest.mark.parametrize(
    ("change", "names", "authentic"),
    [
        (lambda vm: vm.but(spoil=spoiled_claims), ["hcl.claims"], False),
        (lambda vm: vm.but(user_data=b"other"), ["hcl.user_data"], False),
        (
            lambda vm: vm.but(ak=rsa_key(1).public_key().public_numbers().n),
            ["ak.signature"],
            False,
        ),
        (requoted, ["quote.pcr_digest"], False),
        (partial(pcr, 4), ["pcr.4"], True),
        (partial(pcr, 8), ["pcr.8"], True),
        (partial(pcr, 9), ["pcr.9"], True),
        (partial(pcr, 11), ["pcr.11"], True),
        (partial(pcr, 12), ["pcr.12"], True),
        (partial(pcr, 13), ["pcr.13"], True),
        (partial(pcr, 15), ["pcr.15"], True),
    ],
)
def test_changed_vtpm_is_refused_by_name(
    tee: Tee, change: Change, names: list[str], *, authentic: bool
) -> None:
    assert verify(tee, azure_vm(tee))
    assert failed(tee, change(azure_vm(tee))) == (names, authentic)


def with_snp(vm: AzureVm, **fields: bytes | int) -> AzureVm:
    assert isinstance(vm.hardware, FakeSnp)
    return vm.but(hardware=vm.hardware.with_fields(**fields))


def of_other_vendor(vm: AzureVm) -> AzureVm:
    assert isinstance(vm.hardware, FakeSnp)
    return vm.but(hardware=replace(vm.hardware, chain=Chain(number=1)))


def spoiled_snp(report: bytes) -> bytes:
    """Another HOSTDATA, which nobody signed."""
    at = 32 + 0x0C0
    return report[:at] + b"h" + report[at + 1 :]


@pytest.mark.parametrize(
    ("change", "names", "authentic"),
    [
        (partial(with_snp, measurement=b"m" * 48), ["paravisor.measurement"], True),
        (partial(with_snp, vmpl=2), ["snp.vmpl"], True),
        (partial(with_snp, policy=0x30000 | 1 << 19), ["snp.policy.debug"], True),
        (partial(with_snp, launch_tcb=bytes(8)), ["snp.tcb.launch"], True),
        (partial(with_snp, chip_id=bytes(64)), ["snp.chip_id"], False),
        (partial(with_snp, report_id_ma=b"a" * 32), ["snp.report_id_ma"], True),
        (of_other_vendor, ["snp.chain", "snp.product"], False),
        (lambda vm: vm.but(spoil=spoiled_snp), ["snp.signature"], False),
        (
            lambda vm: vm.but(endorse=lambda _asked: b"no certificate"),
            ["snp.certificate", "snp.product"],
            False,
        ),
    ],
)
def test_changed_snp_is_refused_by_name(
    change: Change, names: list[str], *, authentic: bool
) -> None:
    assert failed(SNP, change(azure_vm(SNP))) == (names, authentic)


def with_tdx(vm: AzureVm, **changes: object) -> AzureVm:
    assert isinstance(vm.hardware, FakeTdx)
    return vm.but(hardware=replace(vm.hardware, **changes))  # type: ignore[arg-type]


def quoted_elsewhere(vm: AzureVm) -> AzureVm:
    """The service quotes a domain with other registers."""
    assert isinstance(vm.hardware, FakeTdx)
    other = replace(vm.hardware, rtmrs=[b"r" * 48] * 4)
    return vm.but(endorse=other.quote)


@pytest.mark.parametrize(
    ("change", "names", "authentic"),
    [
        (partial(with_tdx, mrtd=measurement("other")), ["paravisor.measurement"], True),
        (
            partial(with_tdx, td_attributes=1 << 28 | 1),
            ["td.debug", "td.attributes"],
            True,
        ),
        (partial(with_tdx, mrseam=measurement("other")), ["td.mrseam"], True),
        (partial(with_tdx, mrowner=b"o" * 48), ["td.mrowner"], True),
        (partial(with_tdx, quote_signer="other"), ["quote.signature"], False),
        (partial(with_tdx, qe_report_signer="other"), ["qe.signature"], False),
        (partial(with_tdx, pck=FakePck(root="other")), ["pck.chain", "qe.signature"], False),
        (quoted_elsewhere, ["hcl.hardware"], False),
    ],
)
def test_changed_tdx_is_refused_by_name(
    change: Change, names: list[str], *, authentic: bool
) -> None:
    assert failed(TDX, change(azure_vm(TDX))) == (names, authentic)


@BOTH
def test_without_registered_requirements_nothing_is_accepted(tee: Tee) -> None:
    trusted = azure_references()
    others = tuple(known for known in trusted.requirements if known.tee is not tee)
    assert others
    assert failed(tee, azure_vm(tee), replace(trusted, requirements=others)) == (
        ["paravisor.requirements"],
        True,
    )


@BOTH
def test_roots_of_plain_hardware_speak_for_no_paravisor(tee: Tee) -> None:
    plain = {SNP: Tee.SNP, TDX: Tee.TDX}[tee]
    trusted = azure_references()
    roots = tuple(replace(root, platform=plain) for root in trusted.roots)
    names, authentic = failed(tee, azure_vm(tee), replace(trusted, roots=roots))
    assert (names[0], authentic) == ({SNP: "snp.root", TDX: "pck.chain"}[tee], False)


@BOTH
def test_report_of_the_other_hardware_is_no_evidence(tee: Tee) -> None:
    other = {SNP: 4, TDX: 2}[tee]

    def relabel(report: bytes) -> bytes:
        at = 32 + 1184 + 8
        return report[:at] + bytes((other,)) + report[at + 1 :]

    with pytest.raises(FormatError) as refused:
        verify(tee, azure_vm(tee).but(spoil=relabel))
    assert refused.value.reason == "hcl.report_type"
