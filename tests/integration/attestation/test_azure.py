"""Azure's confidential VMs on a real TPM emulator: the paravisor and its metadata service are ours.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The quote is checked with
`cryptography` and hashlib directly, not with the project's verifier.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ccinit.attest.azure import AzureAttester, identify_paravisor
from ccinit.attest.azure_metadata import fetch_endorsement
from ccinit.errors import CcinitError, PeerError, VerificationError
from ccinit.formats.evidence.azure import parse_azure_evidence
from ccinit.formats.evidence.hcl_report import parse_hcl_report
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.tcg.tpm2 import parse_tpms_attest
from ccinit.kernel.tpm import TpmDevice
from ccinit.net.metadata import metadata_client
from tests.fakes.platforms.azure import AK_HANDLE, REPORT_INDEX, SNP, TDX, Paravisor, encode_report
from tests.fakes.platforms.azure_metadata import Metadata, running_metadata
from tests.fakes.platforms.swtpm import Swtpm

REPORT_DATA = ReportData(bytes(range(48)))
ENDORSEMENT = b"endorsement"


def snp_hardware(report_data: bytes) -> bytes:
    """As long as an SNP report, and with its report data where they stand in one."""
    return bytes(80) + report_data + bytes(1184 - 144)


def tdx_hardware(report_data: bytes) -> bytes:
    return bytes(128) + report_data + bytes(1024 - 192)


@pytest.fixture(scope="module")
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    tpm = Swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        tpm.provision(AK_HANDLE)
        yield tpm
    finally:
        tpm.stop()


@contextmanager
def paravisor(tpm: Swtpm, kind: int) -> Iterator[tuple[TpmDevice, Paravisor]]:
    """A TPM with a paravisor's report from before the guest, and who renews it."""
    hardware = snp_hardware if kind == SNP else tdx_hardware
    size = len(encode_report(kind, hardware(bytes(64)), b"")) + 800
    tpm.tools(
        *("tpm2", "nvdefine", hex(REPORT_INDEX), "-C", "o", "-s", str(size)),
        *("-a", "ownerread|ownerwrite"),
    )
    try:
        with tpm.open() as device:
            yield device, Paravisor(device.transmit, kind, tpm.ak_modulus, hardware)
    finally:
        tpm.tools("tpm2", "nvundefine", hex(REPORT_INDEX), "-C", "o")


@pytest.mark.parametrize(("kind", "tee"), [(SNP, Tee.AZ_SNP_VTPM), (TDX, Tee.AZ_TDX_VTPM)])
def test_evidence_leads_from_the_quote_to_the_hardware(swtpm: Swtpm, kind: int, tee: Tee) -> None:
    waits: list[float] = []
    endorsed: list[bytes] = []
    with paravisor(swtpm, kind) as (device, host):

        def endorse(hardware: bytes) -> bytes:
            endorsed.append(hardware)
            return ENDORSEMENT

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            host.renew()

        attester = AzureAttester(tee, device, endorse, sleep=sleep)
        # The first report is of a guest before; the index for user data is made on the way.
        _first_report(device, host)
        evidence = parse_azure_evidence(tee, attester.collect_evidence(REPORT_DATA))
        assert identify_paravisor(device) is tee

    assert len(waits) == 1
    report = parse_hcl_report(evidence.hcl_report)
    assert endorsed == [report.hardware]
    assert report.claims_digest in report.hardware
    assert report.user_data == REPORT_DATA + bytes(16)
    attest = parse_tpms_attest(evidence.message)
    assert attest.extra_data == REPORT_DATA
    assert attest.pcr_digest == hashlib.sha256(b"".join(evidence.pcrs)).digest()
    key = load_pem_public_key((swtpm.directory / "ak.pem").read_bytes())
    assert isinstance(key, RSAPublicKey)
    key.verify(evidence.signature, evidence.message, PKCS1v15(), SHA256())
    assert key.public_numbers().n.to_bytes(256, "big") == report.ak_modulus


def _first_report(device: TpmDevice, host: Paravisor) -> None:
    attester = AzureAttester(Tee.AZ_SNP_VTPM, device, lambda _report: b"", sleep=lambda _: None)
    with pytest.raises(CcinitError) as error:
        attester.collect_evidence(ReportData(b"before"))
    assert error.value.reason == "tpm.refused"  # no report is there yet
    host.renew()


def test_report_that_stays_old_is_no_evidence(swtpm: Swtpm) -> None:
    waits: list[float] = []
    with paravisor(swtpm, SNP) as (device, host):
        _first_report(device, host)
        attester = AzureAttester(Tee.AZ_SNP_VTPM, device, lambda _report: b"", sleep=waits.append)
        with pytest.raises(PeerError) as error:
            attester.collect_evidence(REPORT_DATA)
    assert error.value.reason == "attest.stale"
    assert len(waits) > 10


def test_report_of_the_other_hardware_is_no_evidence(swtpm: Swtpm) -> None:
    with paravisor(swtpm, SNP) as (device, host):
        _first_report(device, host)
        attester = AzureAttester(Tee.AZ_TDX_VTPM, device, lambda _report: b"")
        with pytest.raises(VerificationError) as error:
            attester.collect_evidence(REPORT_DATA)
    assert error.value.reason == "attest.hardware"


def test_tpm_without_a_report_is_not_a_paravisors(swtpm: Swtpm) -> None:
    with swtpm.open() as device:
        assert identify_paravisor(device) is None


def test_report_that_cannot_be_read_is_no_plain_tpm(swtpm: Swtpm) -> None:
    with paravisor(swtpm, SNP) as (device, host):
        _first_report(device, host)
        Paravisor(device.transmit, 3, host.modulus, snp_hardware).renew()
        with pytest.raises(CcinitError) as error:
            identify_paravisor(device)
    assert error.value.reason == "hcl.report_type"


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with running_metadata() as running:
        yield running


def test_endorsements_come_from_the_metadata_service(metadata: Metadata) -> None:
    with metadata_client("127.0.0.1") as client:
        found = fetch_endorsement(client, Tee.AZ_SNP_VTPM, b"", metadata.host)
        assert found == metadata.vcek
        td_report = bytes(range(256)) * 4
        found = fetch_endorsement(client, Tee.AZ_TDX_VTPM, td_report, metadata.host)
        assert found == b"quote over " + td_report


def test_metadata_without_an_endorsement_is_refused(metadata: Metadata) -> None:
    metadata.broken = True
    with metadata_client("127.0.0.1") as client:
        with pytest.raises(CcinitError) as error:
            fetch_endorsement(client, Tee.AZ_SNP_VTPM, b"", metadata.host)
        assert error.value.reason == "azure.vcek"
        with pytest.raises(CcinitError) as error:
            fetch_endorsement(client, Tee.AZ_TDX_VTPM, bytes(1024), metadata.host)
        assert error.value.reason == "azure.metadata"


def test_metadata_client_speaks_plainly_with_its_host_only(metadata: Metadata) -> None:
    with metadata_client("127.0.0.2") as client, pytest.raises(PeerError) as error:
        client.request("GET", f"http://{metadata.host}/")
    assert error.value.reason == "net.url"
