"""Exactly one platform, found by its signs."""

from pathlib import Path

import pytest

from ccinit.attest.detect import PANIC_LISTENER, KernelSigns, Node, Platform, detect_platform
from ccinit.errors import ConfigError
from ccinit.formats.evidence.tee import Tee
from ccinit.kernel.tsm import open_report_entry, open_vtpm_entry
from ccinit.values import replace
from tests.fakes.platforms.platform_signs import FakeSigns


def device(tee: Tee, name: str, path: str) -> Platform:
    return Platform(tee=tee, nodes=(Node(name=name, path=path, writable=True),))


def tpm(path: str) -> Platform:
    register = Node(name="register", path=path, writable=True)
    asked = (Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM)
    return replace(device(Tee.TPM, "tpm", path), asked=asked, register=register)


REPORTS = Platform(tee=Tee.SNP, open_report=open_report_entry)
TDX_GUEST = Node(name="tdx_guest", path="/dev/tdx_guest", writable=True)
CCEL = Node(name="ccel", path="/sys/firmware/acpi/tables/data/CCEL", writable=False)
RTMR3 = Node(
    name="register",
    path="/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384",
    writable=True,
)
QUOTES = Platform(tee=Tee.TDX, nodes=(TDX_GUEST,), open_report=open_report_entry)
LOGGED = replace(QUOTES, nodes=(TDX_GUEST, CCEL))
COCO = "/sys/kernel/security/secrets/coco"
STATEMENT = f"{COCO}/ca2fa1f2-1c46-4003-9bac-6f2c80542909"
SE = {"/sys/firmware/uv/prot_virt_guest": "1\n"}
SVSM = "/sys/devices/platform/tpm-svsm"
SEV_GUEST = device(Tee.SNP, "sev_guest", "/dev/sev-guest")


@pytest.mark.parametrize(
    ("paths", "provider", "platform"),
    [
        ({"/dev/tpmrm0", "/dev/tpm0"}, "", tpm("/dev/tpmrm0")),
        ({"/dev/tpm0"}, "", tpm("/dev/tpm0")),
        ({"/sys/devices/platform/sev-guest", "/dev/sev-guest"}, "sev_guest", REPORTS),
        (set(), "sev_guest", REPORTS),
        ({"/sys/devices/platform/sev-guest", "/dev/sev-guest"}, "", SEV_GUEST),
        (
            {"/sys/devices/platform/arm-cca-dev"},
            "arm_cca_guest",
            Platform(tee=Tee.CCA, open_report=open_report_entry),
        ),
        ({TDX_GUEST.path}, "tdx_guest", QUOTES),
        ({TDX_GUEST.path, CCEL.path}, "tdx_guest", LOGGED),
        (
            {TDX_GUEST.path, CCEL.path, RTMR3.path},
            "tdx_guest",
            replace(LOGGED, register=RTMR3),
        ),
    ],
)
def test_one_platform_is_found(paths: set[str], provider: str, platform: Platform) -> None:
    assert detect_platform(FakeSigns(paths=paths, provider=provider)) == platform


@pytest.mark.parametrize("node", ["/dev/tpmrm0", "/dev/tpm0"])
def test_vtpm_of_an_svsm_stands_for_the_platform_that_it_is_in(node: str) -> None:
    signs = FakeSigns(paths={SVSM, "/dev/sev-guest", node}, provider="sev_guest")
    expected = replace(tpm(node), tee=Tee.SVSM, asked=(), open_report=open_vtpm_entry)
    assert detect_platform(signs) == expected


def test_launch_that_was_judged_has_the_owners_statement() -> None:
    node = Node(name="statement", path=STATEMENT, writable=False)
    found = detect_platform(FakeSigns(paths={COCO, STATEMENT}))
    assert found == Platform(tee=Tee.SEV, nodes=(node,))


def test_secure_execution_is_told_by_its_flag() -> None:
    signs = FakeSigns(paths={"/dev/uv"}, texts=SE)
    assert detect_platform(signs) == device(Tee.SE, "uv", "/dev/uv")


@pytest.mark.parametrize(
    ("signs", "reason", "named"),
    [
        pytest.param(FakeSigns(), "attest.none", "", id="nothing"),
        pytest.param(
            FakeSigns(paths={"/dev/tdx_guest"}),
            "tee.io",
            "tdx: quotes need configfs-tsm",
            id="r17 tdx without quotes",
        ),
        pytest.param(
            FakeSigns(provider="tdx_guest"), "tee.io", "tdx: its device", id="r17 tdx by tsm only"
        ),
        pytest.param(
            FakeSigns(paths={"/sys/devices/platform/arm-cca-dev"}),
            "tee.io",
            "cca: tokens need configfs-tsm",
            id="r17 cca without tokens",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/csv-guest"}),
            "attest.unsupported",
            "csv: its reports",
            id="csv",
        ),
        pytest.param(
            FakeSigns(paths={COCO}), "tee.io", "sev: the owner injected no", id="sev unjudged"
        ),
        pytest.param(
            FakeSigns(paths={COCO, STATEMENT, "/dev/sev-guest"}, provider="sev_guest"),
            "attest.ambiguous",
            "snp, sev",
            id="sev that is snp",
        ),
        pytest.param(
            FakeSigns(paths={COCO, STATEMENT, "/dev/tpm0"}),
            "attest.ambiguous",
            "sev, tpm",
            id="sev with a tpm",
        ),
        pytest.param(
            FakeSigns(texts=SE), "tee.io", "se: the ultravisor is asked", id="r17 se without device"
        ),
        pytest.param(
            FakeSigns(paths={"/dev/uv"}, texts={"/sys/firmware/uv/prot_virt_guest": "0\n"}),
            "attest.none",
            "",
            id="a host of se",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/uv", "/dev/tpm0"}, texts=SE),
            "attest.ambiguous",
            "se, tpm",
            id="se with a tpm",
        ),
        pytest.param(
            FakeSigns(texts={"/sys/devices/system/cpu/svm": "1\n"}),
            "attest.unsupported",
            "pef: POWER's ultravisor",
            id="pef",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/sgx_enclave"}), "attest.unsupported", "sgx: an enclave", id="sgx"
        ),
        pytest.param(
            FakeSigns(paths={SVSM, "/dev/sev-guest", "/dev/tpmrm0"}),
            "tee.io",
            "svsm: its vTPM is not there, or nothing reports it",
            id="svsm without reports",
        ),
        pytest.param(
            FakeSigns(paths={SVSM, "/dev/sev-guest"}, provider="sev_guest"),
            "tee.io",
            "svsm: its vTPM is not there",
            id="svsm without its driver",
        ),
        pytest.param(
            FakeSigns(paths={SVSM, "/dev/tpmrm0", "/dev/tpm1"}, provider="sev_guest"),
            "attest.ambiguous",
            "a second tpm, svsm",
            id="svsm with a tpm of the host's",
        ),
        pytest.param(
            FakeSigns(paths={SVSM, "/dev/tpmrm0", "/dev/tdx_guest"}),
            "attest.ambiguous",
            "tdx, svsm",
            id="svsm and another",
        ),
        pytest.param(
            FakeSigns(texts={"/sys/devices/system/cpu/svm": "0\n"}), "attest.none", "", id="POWER"
        ),
        pytest.param(
            FakeSigns(paths={"/sys/devices/platform/sev-guest"}),
            "tee.io",
            "snp: its driver",
            id="r17 no driver",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/sev-guest", "/dev/tpmrm0"}),
            "attest.ambiguous",
            "snp, tpm",
            id="snp with a tpm",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/tpm0"}, provider="sev_guest"),
            "attest.ambiguous",
            "snp, tpm",
            id="snp by tsm with a tpm",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/sev-guest", "/dev/tdx_guest"}),
            "attest.ambiguous",
            "snp, tdx",
            id="two",
        ),
        pytest.param(
            FakeSigns(paths={"/dev/tpmrm0", "/dev/tpm1"}),
            "attest.ambiguous",
            "tpm, a second tpm",
            id="two tpms",
        ),
    ],
)
def test_other_than_one_known_platform_is_refused(
    signs: FakeSigns, reason: str, named: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        detect_platform(signs)
    assert refused.value.reason == reason
    assert named in refused.value.detail


@pytest.mark.parametrize(
    ("signs", "tee"),
    [
        (FakeSigns(provider="sev_guest"), Tee.SNP),
        (FakeSigns(paths={TDX_GUEST.path}, provider="tdx_guest"), Tee.TDX),
        (FakeSigns(paths={SVSM, "/dev/tpm0"}, provider="sev_guest"), Tee.SVSM),
        (FakeSigns(paths={COCO, STATEMENT}), Tee.SEV),
    ],
)
def test_host_that_a_panic_would_be_told_is_refused_where_memory_is_not_its_own(
    signs: FakeSigns, tee: Tee
) -> None:
    assert detect_platform(signs).tee is tee
    signs = FakeSigns(paths={*signs.paths, PANIC_LISTENER}, provider=signs.provider)
    with pytest.raises(ConfigError) as refused:
        detect_platform(signs)
    assert refused.value.reason == "attest.unsupported"
    assert refused.value.detail == f"{tee}: its host would be told of panics"


def test_paravisors_tpm_is_taken_on_hyper_v() -> None:
    """Azure's machines are Hyper-V's."""
    assert detect_platform(FakeSigns(paths={"/dev/tpm0", PANIC_LISTENER})) == tpm("/dev/tpm0")


def test_signs_are_those_of_the_kernel(tmp_path: Path) -> None:
    signs, flag = KernelSigns(), tmp_path / "flag"
    assert (signs.exists(str(flag)), signs.read(str(flag))) == (False, "")
    flag.write_text("1\n")
    assert (signs.exists(str(flag)), signs.read(str(flag))) == (True, "1\n")
    flag.write_bytes(b"\xff")
    assert signs.read(str(flag)) == ""
