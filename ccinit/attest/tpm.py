"""The Attester of a vTPM: a quote by a provisioned attestation key over all SHA-256 PCRs.

The platform provisions the key, at a persistent handle with empty authorization, and its public
part is registered with the owner's KBS. Only its kind is checked here, to fail early and with a
clear reason. The verifier judges the quote.
"""

from ccinit.attest.tpm_quote import quote_all_pcrs
from ccinit.errors import VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.evidence.tpm import TpmEvidence, encode_rsa_public_key
from ccinit.formats.tcg.tpm2 import ATTESTATION_KEY_ATTRIBUTES, TpmtPublic
from ccinit.formats.tcg.tpm_commands import Carrier, TpmCommands

AK_HANDLE = 0x81010002


class TpmAttester:
    """Makes `tpm` evidence with one device and one key."""

    def __init__(self, device: Carrier, *, ak_handle: int = AK_HANDLE) -> None:
        """Args: device: not owned; ak_handle: persistent handle of the attestation key."""
        self._tpm = TpmCommands(device)
        self._ak_handle = ak_handle

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a quote over all 24 PCRs, and the values that it covers.

        Raises:
            VerificationError: `attest.key`, the key at the handle is not an attestation key.
            PeerError: as `quote_all_pcrs`.
        """
        public = self._tpm.read_public(self._ak_handle)
        _verify_attestation_key(public)
        quoted = quote_all_pcrs(self._tpm, self._ak_handle, report_data)
        evidence = TpmEvidence(
            message=quoted.quote.message,
            signature=quoted.quote.signature,
            pcrs=quoted.pcrs,
            ak_public_der=encode_rsa_public_key(public.modulus, public.exponent),
        )
        return evidence.to_json_value()


def _verify_attestation_key(public: TpmtPublic) -> None:
    missing = ATTESTATION_KEY_ATTRIBUTES & ~public.attributes
    if missing:
        raise VerificationError("attest.key", f"the key lacks {missing!r}")
