"""What the tests of Azure's verifiers register, and VMs that are as registered."""

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredRoot
from tests.fakes.platforms.azure import PARAVISOR, AzureVm
from tests.fakes.platforms.snp import Chain, FakeSnp
from tests.fakes.platforms.tdx_quote import FakePck, FakeTdx
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS
from tests.unit.guest_owner.kbs.values import booted_tpm, initdata, reference_set
from tests.unit.guest_owner.kbs.verifiers.tdx_values import REQUIREMENTS_TOML, root_of

_PARAVISOR = f'version = 1\nparavisor = ["{PARAVISOR.hex()}"]\n'
AZURE_REQUIREMENTS = {
    Tee.AZ_SNP_VTPM: REQUIREMENTS.decode().replace("version = 1\n", _PARAVISOR),
    Tee.AZ_TDX_VTPM: REQUIREMENTS_TOML.replace("version = 1\n", _PARAVISOR),
}
IMAGE = reference_set()


def azure_vm(tee: Tee, image: ReferenceSet = IMAGE) -> AzureVm:
    tpm = booted_tpm(image)
    if tee is Tee.AZ_SNP_VTPM:
        return AzureVm(hardware=FakeSnp().with_fields(measurement=PARAVISOR), tpm=tpm)
    return AzureVm(hardware=FakeTdx(mrtd=PARAVISOR), tpm=tpm)


def azure_references() -> References:
    return References(
        sets=(IMAGE,),
        roots=(
            RegisteredRoot(name="amd", platform=Tee.AZ_SNP_VTPM, certificates=Chain().trusted),
            RegisteredRoot(
                name="intel",
                platform=Tee.AZ_TDX_VTPM,
                certificates=root_of(FakePck()).certificates,
            ),
        ),
        requirements=tuple(
            parse_requirements(text.encode(), tee) for tee, text in AZURE_REQUIREMENTS.items()
        ),
        initdata=(initdata(),),
    )
