"""Role `measure`: name the platform, and bind the initdata digest to it.

The platform's devices come as descriptors. The platform is named first, so that nothing is measured
into a TPM whose report cannot be read.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from ccinit.agent.jobs.evidence import cca_attester, snp_attester
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.azure import identify_paravisor
from ccinit.attest.platform_fd import PlatformFd
from ccinit.attest.svsm import read_keys
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.evidence.svsm import PARAMETER, encode_svsm_keys
from ccinit.formats.evidence.tdx_report import TDREPORT_BYTES, parse_td_report
from ccinit.formats.evidence.tee import NO_REPORT_DATA, Tee, initdata_binding
from ccinit.formats.kbs.launch_secret import MAX_ENTRY_BYTES, parse_launch_statement
from ccinit.kernel.efi_secret import read_secret
from ccinit.kernel.tdx_guest import read_td_report
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.initdata import bind_initdata, compare_initdata
from ccinit.measure.register import Pcr
from ccinit.measure.tpm_pcr import TpmPcr


def run(request: BindRequest, channel: JobChannel) -> BindReply:
    """Do the job; descriptors are named as in `ccinit.attest.platform_fd`."""
    tee = _identify(request.tee, channel.fds)
    BINDERS[tee](channel.fds, request.digest)
    parameters = PARAMETERS[tee](channel.fds) if tee in PARAMETERS else b""
    return BindReply(tee=tee, parameters=parameters)


def _identify(tee: Tee, fds: Mapping[str, int]) -> Tee:
    """Ask a TPM which platform it belongs to; the other devices identify their platform."""
    if tee is not Tee.TPM:
        return tee
    return identify_paravisor(TpmDevice(fds[PlatformFd.TPM])) or tee


def _extend_pcr(fds: Mapping[str, int], digest: bytes) -> None:
    bind_initdata(TpmPcr(TpmDevice(fds[PlatformFd.TPM]), Pcr.INITDATA), digest)


def _compare_host_data(fds: Mapping[str, int], digest: bytes) -> None:
    host_data = snp_attester(fds).read_host_data()
    compare_initdata(host_data, digest, initdata_binding(Tee.SNP).size_bytes)


def _compare_mrconfigid(fds: Mapping[str, int], digest: bytes) -> None:
    """Compare with the TDX module's own report: a quote comes from the host, which may forge it."""
    if PlatformFd.TD_REPORT in fds:
        raw = os.read(fds[PlatformFd.TD_REPORT], TDREPORT_BYTES)
    else:
        raw = read_td_report(fds[PlatformFd.TDX_GUEST], NO_REPORT_DATA)
    report = parse_td_report(raw)
    compare_initdata(report.mrconfigid, digest, initdata_binding(Tee.TDX).size_bytes)


def _compare_personalization(fds: Mapping[str, int], digest: bytes) -> None:
    personalization = cca_attester(fds).read_personalization()
    compare_initdata(personalization, digest, initdata_binding(Tee.CCA).size_bytes)


def _leave_to_evidence(_fds: Mapping[str, int], _digest: bytes) -> None:
    """Bind nothing yet: the ultravisor measures this guest's statement along with its evidence."""


def _compare_launch_statement(fds: Mapping[str, int], digest: bytes) -> None:
    """Compare with the owner's statement, the only one of the launch secrets given here."""
    statement = parse_launch_statement(read_secret(fds[PlatformFd.STATEMENT], MAX_ENTRY_BYTES))
    compare_initdata(statement.initdata.raw, digest, initdata_binding(Tee.SEV).size_bytes)


BINDERS: dict[Tee, Callable[[Mapping[str, int], bytes], None]] = {
    Tee.TPM: _extend_pcr,
    Tee.AZ_SNP_VTPM: _extend_pcr,
    Tee.AZ_TDX_VTPM: _extend_pcr,
    Tee.CCA: _compare_personalization,
    Tee.SE: _leave_to_evidence,
    Tee.SEV: _compare_launch_statement,
    Tee.SVSM: _extend_pcr,
    Tee.SNP: _compare_host_data,
    Tee.TDX: _compare_mrconfigid,
}


def _name_keys(fds: Mapping[str, int]) -> bytes:
    keys = encode_svsm_keys(read_keys(TpmDevice(fds[PlatformFd.TPM])))
    return canonical_json({PARAMETER: keys})


PARAMETERS: dict[Tee, Callable[[Mapping[str, int]], bytes]] = {Tee.SVSM: _name_keys}
"""What a KBS has to know before it can ask for evidence."""

with suppress(ModuleNotFoundError):  # only images of the `test` profile hold it
    from ccinit.attest.simulated import sample

    BINDERS[Tee.SAMPLE] = sample.leave_unbound
