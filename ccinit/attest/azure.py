"""The Attester of Azure's confidential VMs: the paravisor's vTPM, and the hardware behind it.

The guest sees neither SNP nor TDX, but a TPM of the paravisor below it. A report in that TPM's NV
memory, signed by the hardware, names its attestation key, so a quote chains to the hardware (Azure
documentation, "Guest attestation for confidential VMs"):

    1. the report data is written to an NV index of ours; the paravisor then renews its report;
    2. the report is read until it carries that data;
    3. a quote over all SHA-256 PCRs carries the same bytes;
    4. the endorsement (VCEK, or a TDX quote over the TD report) comes from Azure's metadata
       service, which belongs to the host: only its vendor signature counts.

Step 4 needs a network, which the process with the TPM does not have; it asks PID 1.
"""

import time
from collections.abc import Callable
from typing import Final

from ccinit.attest.tpm_quote import quote_all_pcrs
from ccinit.errors import PeerError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.azure import AzureEvidence
from ccinit.formats.evidence.hcl_report import (
    USER_DATA_BYTES,
    HardwareKind,
    HclReport,
    parse_hcl_report,
)
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.tcg.tpm2 import parse_tpmt_signature
from ccinit.formats.tcg.tpm_commands import Carrier, TpmCommands

AK_HANDLE: Final = 0x81000003
REPORT_INDEX: Final = 0x01400001
USER_DATA_INDEX: Final = 0x01400002

EndorseReport = Callable[[bytes], bytes]
"""Returns the endorsement of a hardware report, as `ccinit.attest.azure_metadata` gives it."""

_KINDS: Final = {HardwareKind.SNP: Tee.AZ_SNP_VTPM, HardwareKind.TDX: Tee.AZ_TDX_VTPM}
# The paravisor makes a new report some seconds after the write; Azure's own tools wait for three.
_RENEWAL_SECONDS: Final = 0.5
_MAX_RENEWALS: Final = 40


def identify_paravisor(device: Carrier) -> Tee | None:
    """Return which platform's vTPM this is; None if it holds no paravisor's report.

    Raises:
        FormatError: `hcl.…`, there is a report but it cannot be parsed: no platform then.
        PeerError: the TPM's refusal.
    """
    tpm = TpmCommands(device)
    if REPORT_INDEX not in tpm.list_nv_indexes():
        return None
    return _KINDS[parse_hcl_report(tpm.read_nv(REPORT_INDEX)).kind]


class AzureAttester:
    """Makes `az-snp-vtpm` or `az-tdx-vtpm` evidence."""

    def __init__(
        self,
        tee: Tee,
        device: Carrier,
        endorse: EndorseReport,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args: tee: one of the two; device: not owned; endorse: see there."""
        self._tee = tee
        self._tpm = TpmCommands(device)
        self._endorse = endorse
        self._sleep = sleep

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a quote and a report that both carry `report_data`, 1 to 64 bytes.

        Raises:
            PeerError: `attest.stale`, or as `quote_all_pcrs`.
            VerificationError: `attest.hardware`, the report is of another platform.
        """
        encoded, report = self._renew_report(report_data)
        quoted = quote_all_pcrs(self._tpm, AK_HANDLE, report_data)
        evidence = AzureEvidence(
            tee=self._tee,
            message=quoted.quote.message,
            signature=parse_tpmt_signature(quoted.quote.signature),
            pcrs=quoted.pcrs,
            hcl_report=encoded,
            endorsement=self._endorse(report.hardware),
        )
        return evidence.to_json_value()

    def _renew_report(self, report_data: bytes) -> tuple[bytes, HclReport]:
        wanted = report_data.ljust(USER_DATA_BYTES, b"\0")
        if USER_DATA_INDEX not in self._tpm.list_nv_indexes():
            self._tpm.define_nv(USER_DATA_INDEX, USER_DATA_BYTES)
        self._tpm.write_nv(USER_DATA_INDEX, wanted)
        for _renewal in range(_MAX_RENEWALS):
            encoded = self._tpm.read_nv(REPORT_INDEX)
            report = parse_hcl_report(encoded)
            if _KINDS[report.kind] is not self._tee:
                raise VerificationError("attest.hardware", f"the report is of {report.kind.name}")
            if report.user_data == wanted:
                return encoded, report
            self._sleep(_RENEWAL_SECONDS)
        raise PeerError("attest.stale", "the paravisor's report does not take up the report data")
