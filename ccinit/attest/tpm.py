"""The Attester of a vTPM: a quote by a provisioned attestation key over all SHA-256 PCRs.

The key is the platform's, at a persistent handle with empty authorization; it is registered with
the owner's KBS by its public part. Here only its kind is checked, to fail early and by name. The
steps of judging a quote are the verifier's.
"""

import hashlib

from ccinit.attest.attester import Evidence
from ccinit.errors import PeerError, VerificationError
from ccinit.formats.tee import ReportData, Tee
from ccinit.formats.tpm2 import (
    ALL_SHA256_PCRS,
    ATTESTATION_KEY_ATTRIBUTES,
    TpmtPublic,
    parse_tpms_attest,
)
from ccinit.formats.tpm_commands import Carrier, TpmCommands
from ccinit.formats.tpm_evidence import TpmEvidence, encode_rsa_public_key

AK_HANDLE = 0x81010002

# Reads and quotes interleave with the kernel's own extends (IMA: PCR 10), which are rare and come
# in bursts; a register that changes in each of these rounds is not at rest.
_MAX_ROUNDS = 8


class TpmAttester:
    """Makes `tpm` evidence with one device and one key."""

    def __init__(self, device: Carrier, *, ak_handle: int = AK_HANDLE) -> None:
        """Args: device: not owned; ak_handle: persistent handle of the attestation key."""
        self._tpm = TpmCommands(device)
        self._ak_handle = ak_handle

    @property
    def tee(self) -> Tee:
        """The name of the verifier."""
        return Tee.TPM

    def collect_evidence(self, report_data: ReportData) -> Evidence:
        """Return a quote over all 24 PCRs, and the values that it covers.

        Raises:
            VerificationError: `attest.key`, the key at the handle is no attestation key.
            PeerError: `attest.unstable`, or the TPM's refusal.
        """
        public = self._tpm.read_public(self._ak_handle)
        _verify_attestation_key(public)
        for _round in range(_MAX_ROUNDS):
            pcrs = self._tpm.read_pcrs(ALL_SHA256_PCRS.pcrs)
            quote = self._tpm.quote(self._ak_handle, report_data, ALL_SHA256_PCRS)
            attest = parse_tpms_attest(quote.message)
            if attest.pcr_selections != (ALL_SHA256_PCRS,) or attest.extra_data != report_data:
                raise PeerError("attest.quote", "the quote is not the one that was asked for")
            if attest.pcr_digest == hashlib.sha256(b"".join(pcrs)).digest():
                evidence = TpmEvidence(
                    message=quote.message,
                    signature=quote.signature,
                    pcrs=pcrs,
                    ak_public_der=encode_rsa_public_key(public),
                )
                return Evidence(tee=self.tee, value=evidence.to_json_value())
        raise PeerError("attest.unstable", "the PCRs change faster than they are quoted")


def _verify_attestation_key(public: TpmtPublic) -> None:
    missing = ATTESTATION_KEY_ATTRIBUTES & ~public.attributes
    if missing:
        raise VerificationError("attest.key", f"the key lacks {missing!r}")
