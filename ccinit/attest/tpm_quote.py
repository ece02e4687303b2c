"""A consistent quote of a TPM: all SHA-256 PCRs, and a quote that covers exactly these values.

Reading PCRs and quoting them are separate commands, and the kernel may extend in between (IMA: PCR
10). So values are read and quoted until the two match. Whether key and values are good is for the
verifier to decide.
"""

import hashlib

from ccinit.errors import PeerError
from ccinit.formats.tcg.tpm2 import ALL_SHA256_PCRS, Quote, parse_tpms_attest
from ccinit.formats.tcg.tpm_commands import TpmCommands
from ccinit.values import frozen

# Extends are rare and come in bursts; if every round sees a change, the PCRs are not stable.
_MAX_ROUNDS = 8


@frozen
class QuotedPcrs:
    """A quote, and the 24 values of the SHA-256 bank that it covers, 32 bytes each."""

    quote: Quote
    pcrs: tuple[bytes, ...]


def quote_all_pcrs(tpm: TpmCommands, key_handle: int, extra_data: bytes) -> QuotedPcrs:
    """Return a quote over all 24 registers that carries `extra_data`, 1 to 64 bytes.

    Raises:
        PeerError: `attest.quote`, not the quote that was asked for; `attest.unstable`; or the TPM's
            refusal.
        FormatError: `tpm2.…`.
    """
    for _round in range(_MAX_ROUNDS):
        pcrs = tpm.read_pcrs(ALL_SHA256_PCRS.pcrs)
        quote = tpm.quote(key_handle, extra_data, ALL_SHA256_PCRS)
        attest = parse_tpms_attest(quote.message)
        if attest.pcr_selections != (ALL_SHA256_PCRS,) or attest.extra_data != extra_data:
            raise PeerError("attest.quote", "the quote is not the one that was asked for")
        if attest.pcr_digest == hashlib.sha256(b"".join(pcrs)).digest():
            return QuotedPcrs(quote=quote, pcrs=pcrs)
    raise PeerError("attest.unstable", "the PCRs change faster than they are quoted")
