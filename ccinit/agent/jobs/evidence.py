"""Role `evidence`: make the platform's evidence; its devices come as descriptors."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from ccinit.agent.jobs.messages.evidence import (
    EndorsementAnswer,
    EndorsementQuestion,
    EvidenceReply,
    EvidenceRequest,
)
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.attester import Attester
from ccinit.attest.azure import AzureAttester
from ccinit.attest.cca import CcaAttester
from ccinit.attest.platform_fd import PlatformFd
from ccinit.attest.se import SeAttester
from ccinit.attest.snp import SnpAttester
from ccinit.attest.svsm import SvsmAttester
from ccinit.attest.tdx import TdxAttester, join_event_logs
from ccinit.attest.tpm import TpmAttester
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.kernel.entropy import random_bytes
from ccinit.kernel.sev_guest import get_extended_report
from ccinit.kernel.tdx_guest import read_event_log
from ccinit.kernel.tpm import TpmDevice
from ccinit.kernel.tsm import CCA_GUEST, SEV_GUEST, TDX_GUEST, TsmReport, read_report
from ccinit.kernel.uv import retrieve_measurement


def run(request: EvidenceRequest, channel: JobChannel) -> EvidenceReply:
    """Do the job; descriptors are named as in `ccinit.attest.platform_fd`."""
    attester = ATTESTERS[request.tee](channel, request)
    evidence = attester.collect_evidence(ReportData(request.report_data))
    return EvidenceReply(evidence=canonical_json(evidence))


def azure_attester(tee: Tee, channel: JobChannel) -> AzureAttester:
    """Return the Attester over a paravisor's TPM; PID 1 has its hardware report endorsed."""

    def endorse(hardware: bytes) -> bytes:
        question = EndorsementQuestion(hardware=hardware)
        return channel.ask(question, EndorsementAnswer).endorsement

    return AzureAttester(tee, TpmDevice(channel.fds[PlatformFd.TPM]), endorse)


def snp_attester(fds: Mapping[str, int]) -> SnpAttester:
    """Return the Attester over an already requested report, or else over the device."""
    if PlatformFd.SEV_GUEST in fds:
        return SnpAttester(partial(get_extended_report, fds[PlatformFd.SEV_GUEST]))

    def source(_report_data: bytes) -> TsmReport:
        return read_report(fds, SEV_GUEST)

    return SnpAttester(source)


def tdx_attester(fds: Mapping[str, int], events: bytes) -> TdxAttester:
    """Return the Attester over an already requested quote, and both event logs."""
    firmware = read_event_log(fds[PlatformFd.CCEL]) if PlatformFd.CCEL in fds else None
    return TdxAttester(
        lambda _report_data: read_report(fds, TDX_GUEST).outblob,
        join_event_logs(firmware, events),
    )


def cca_attester(fds: Mapping[str, int]) -> CcaAttester:
    """Return the Attester over an already requested token."""
    return CcaAttester(lambda _challenge: read_report(fds, CCA_GUEST).outblob)


def se_attester(fds: Mapping[str, int], request: EvidenceRequest) -> SeAttester:
    """Return the Attester over the ultravisor's device, in answer to the verifier's request."""
    return SeAttester(
        partial(retrieve_measurement, fds[PlatformFd.UV]),
        request=request.verifiers_request,
        initdata_digest=request.initdata,
    )


def svsm_attester(fds: Mapping[str, int], request: EvidenceRequest) -> SvsmAttester:
    """Return the Attester over the vTPM's device and an already requested report about it."""
    return SvsmAttester(
        TpmDevice(fds[PlatformFd.TPM]),
        lambda: read_report(fds, SEV_GUEST),
        request=request.verifiers_request,
        nonce=random_bytes(32),
    )


ATTESTERS: dict[Tee, Callable[[JobChannel, EvidenceRequest], Attester]] = {
    # Only TDX evidence has a field for an event log; otherwise the owner takes it from the sealed
    # log.
    Tee.TPM: lambda channel, _request: TpmAttester(TpmDevice(channel.fds[PlatformFd.TPM])),
    Tee.AZ_SNP_VTPM: lambda channel, _request: azure_attester(Tee.AZ_SNP_VTPM, channel),
    Tee.AZ_TDX_VTPM: lambda channel, _request: azure_attester(Tee.AZ_TDX_VTPM, channel),
    Tee.CCA: lambda channel, _request: cca_attester(channel.fds),
    Tee.SE: lambda channel, request: se_attester(channel.fds, request),
    Tee.SNP: lambda channel, _request: snp_attester(channel.fds),
    Tee.SVSM: lambda channel, request: svsm_attester(channel.fds, request),
    Tee.TDX: lambda channel, request: tdx_attester(channel.fds, request.events),
}
with suppress(ModuleNotFoundError):  # only images of the `test` profile hold it
    from ccinit.attest.simulated import sample

    ATTESTERS[Tee.SAMPLE] = lambda _channel, _request: sample.SampleAttester()
