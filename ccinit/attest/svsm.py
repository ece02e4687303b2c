"""The Attester of a vTPM that an SVSM runs below the guest, at VMPL 0 of SEV-SNP.

The TPM is ephemeral: its seeds are new in each boot, so none of its keys can be registered.
Instead, this chain leads to the hardware:

    1. the processor's report, which the SVSM requests, names the vTPM's endorsement key;
    2. a credential that the verifier made for that key and the attestation key opens only in the
       TPM that has both;
    3. the attestation key quotes the registers.

Both are primary keys of fixed templates, so every process that has the TPM derives the same ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ccinit.attest.tpm_quote import quote_all_pcrs
from ccinit.errors import ConfigError, PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.snp import SnpEvidence, parse_certificate_table
from ccinit.formats.evidence.snp_report import parse_snp_report
from ccinit.formats.evidence.svsm import (
    SvsmEvidence,
    SvsmKeys,
    parse_svsm_request,
    service_report_data,
)
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.evidence.tpm import TpmEvidence, encode_rsa_public_key
from ccinit.formats.tcg.tpm2 import parse_tpmt_public
from ccinit.formats.tcg.tpm2_keys import AK_TEMPLATE, EK_TEMPLATE, PrimaryKey
from ccinit.formats.tcg.tpm_commands import Carrier, TpmCommands
from ccinit.kernel.tsm import TsmReport

ServiceSource = Callable[[], TsmReport]
"""Returns the report about the vTPM, over the report data that was requested."""


@contextmanager
def _primary_key(tpm: TpmCommands, template: bytes) -> Iterator[PrimaryKey]:
    """Derive a key from the TPM's seed, for use in the block; it is the same one each time."""
    key = tpm.create_primary(template)
    try:
        yield key
    finally:
        tpm.flush(key.handle)


def read_keys(device: Carrier) -> SvsmKeys:
    """Return the public parts of the vTPM's keys.

    Raises:
        PeerError: the TPM's refusal.
        FormatError: `tpm2.…`.
    """
    tpm = TpmCommands(device)
    with _primary_key(tpm, EK_TEMPLATE) as ek, _primary_key(tpm, AK_TEMPLATE) as ak:
        return SvsmKeys(ek=ek.encoded, ak=ak.encoded)


class SvsmAttester:
    """Makes `svsm` evidence."""

    def __init__(
        self, device: Carrier, source: ServiceSource, *, request: bytes, nonce: bytes
    ) -> None:
        """Args: request: the verifier's, JSON; nonce: 32 random bytes for the TPM's session."""
        self._tpm = TpmCommands(device)
        self._source = source
        self._request = request
        self._nonce = nonce

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a quote and a report that both carry `report_data`, 64 bytes.

        Raises:
            ConfigError: `attest.request`, there is none to answer.
            FormatError: `svsm_request.…`, `snp_report.…`, `snp_certificates.…`, `tpm2.…`.
            PeerError: `attest.report`, the report is over something else; or as `quote_all_pcrs`.
        """
        if not self._request:
            raise ConfigError("attest.request", "no verifier has sent a request yet")
        request = parse_svsm_request(self._request)
        raw = self._source()
        report = parse_snp_report(raw.outblob)
        if report.report_data != service_report_data(report_data, raw.manifestblob):
            raise PeerError("attest.report", "the report is not over what was asked for")
        with (
            _primary_key(self._tpm, EK_TEMPLATE) as ek,
            _primary_key(self._tpm, AK_TEMPLATE) as ak,
        ):
            activated = self._tpm.activate_credential(
                ak.handle, ek.handle, request.blob, request.secret, self._nonce
            )
            quoted = quote_all_pcrs(self._tpm, ak.handle, report_data)
        public = parse_tpmt_public(ak.encoded)
        evidence = SvsmEvidence(
            snp=SnpEvidence(report=report, certificates=parse_certificate_table(raw.auxblob)),
            tpm=TpmEvidence(
                message=quoted.quote.message,
                signature=quoted.quote.signature,
                pcrs=quoted.pcrs,
                ak_public_der=encode_rsa_public_key(public.modulus, public.exponent),
            ),
            manifest=raw.manifestblob,
            ak=ak.encoded,
            activated=activated,
            sealed=request.sealed,
        )
        return evidence.to_json_value()
