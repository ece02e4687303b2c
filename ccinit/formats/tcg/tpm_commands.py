"""TPM 2.0 commands as calls, over any carrier that sends a command and returns its reply.

Pure like the rest of this package: the carrier does the input and output; in the guest it is
`ccinit.kernel.tpm`. `ccinit.formats.tcg.tpm2` encodes commands and parses replies. What registers
mean is left to the rooms, and whether a quote is good to the verifier.
"""

from typing import Protocol

from ccinit.errors import PeerError
from ccinit.formats.tcg.tpm2 import (
    Algorithm,
    PcrSelection,
    Quote,
    TpmtPublic,
    encode_pcr_extend,
    encode_pcr_read,
    encode_quote,
    encode_read_public,
    parse_pcr_extend,
    parse_pcr_read,
    parse_quote,
    parse_read_public,
)
from ccinit.formats.tcg.tpm2_keys import (
    PrimaryKey,
    encode_activate_credential,
    encode_create_primary,
    encode_endorsement_policy,
    encode_flush,
    encode_start_policy,
    parse_activate_credential,
    parse_create_primary,
    parse_endorsement_policy,
    parse_flush,
    parse_start_policy,
)
from ccinit.formats.tcg.tpm2_nv import (
    MAX_CHUNK_BYTES,
    encode_list_nv_indexes,
    encode_nv_define,
    encode_nv_read,
    encode_nv_read_public,
    encode_nv_write,
    parse_list_nv_indexes,
    parse_nv_done,
    parse_nv_read,
    parse_nv_size,
)
from ccinit.values import frozen


class Carrier(Protocol):
    """A way to a TPM."""

    def transmit(self, command: bytes) -> bytes:
        """Send one command and return its successful reply."""


@frozen(kw_only=False)
class TpmCommands:
    """The commands; each raises what its carrier raises, and `FormatError` for a broken reply."""

    carrier: Carrier

    def read_pcrs(self, pcrs: tuple[int, ...]) -> tuple[bytes, ...]:
        """Return the SHA-256 bank's values of `pcrs`, in that order.

        A reply holds at most eight, so this may take several commands, between which registers may
        be extended. A quote shows whether the values are of one moment.

        Raises:
            PeerError: `tpm.pcr_bank`, the TPM returns no registers or others.
        """
        values: dict[int, bytes] = {}
        while missing := tuple(sorted(set(pcrs) - values.keys())):
            selection = PcrSelection(algorithm=Algorithm.SHA256, pcrs=missing)
            reply = parse_pcr_read(self.carrier.transmit(encode_pcr_read(selection)))
            returned = tuple(pcr for bank in reply.selections for pcr in bank.pcrs)
            if not returned or not set(missing).issuperset(returned):
                raise PeerError("tpm.pcr_bank", f"no value for PCR {missing[0]}")
            values.update(zip(returned, reply.values, strict=True))
        return tuple(values[pcr] for pcr in pcrs)

    def extend_pcr(self, pcr: int, digest: bytes) -> None:
        """Extend one register of the SHA-256 bank with 32 bytes."""
        parse_pcr_extend(self.carrier.transmit(encode_pcr_extend(pcr, digest)))

    def quote(self, key_handle: int, extra_data: bytes, selection: PcrSelection) -> Quote:
        """Return a quote over `selection`, signed by the key at `key_handle` (empty auth)."""
        return parse_quote(self.carrier.transmit(encode_quote(key_handle, extra_data, selection)))

    def read_public(self, handle: int) -> TpmtPublic:
        """Return the public part of the object at `handle`."""
        return parse_read_public(self.carrier.transmit(encode_read_public(handle)))

    def create_primary(self, template: bytes) -> PrimaryKey:
        """Make a primary key of the endorsement hierarchy; a template always gives the same key."""
        return parse_create_primary(self.carrier.transmit(encode_create_primary(template)))

    def flush(self, handle: int) -> None:
        """Remove a key or session from the TPM's memory."""
        parse_flush(self.carrier.transmit(encode_flush(handle)))

    def activate_credential(
        self, key: int, endorsement_key: int, blob: bytes, secret: bytes, nonce: bytes
    ) -> bytes:
        """Return a credential's secret, which the TPM yields only if both keys are in it.

        Args:
            key: handle, with empty authorization.
            endorsement_key: handle, of the default template.
            blob: TPM2B_ID_OBJECT, without its length.
            secret: the encrypted seed, without its length.
            nonce: 32 random bytes for the policy session.
        """
        session = parse_start_policy(self.carrier.transmit(encode_start_policy(nonce)))
        try:
            parse_endorsement_policy(self.carrier.transmit(encode_endorsement_policy(session)))
            command = encode_activate_credential(key, endorsement_key, session, blob, secret)
            return parse_activate_credential(self.carrier.transmit(command))
        finally:
            self.flush(session)

    def list_nv_indexes(self) -> tuple[int, ...]:
        """Return every index that is defined."""
        return parse_list_nv_indexes(self.carrier.transmit(encode_list_nv_indexes()))

    def read_nv(self, index: int) -> bytes:
        """Return the whole content of an index, by the owner's empty authorization."""
        size_bytes = parse_nv_size(self.carrier.transmit(encode_nv_read_public(index)))
        content = b""
        while len(content) < size_bytes:
            length = min(MAX_CHUNK_BYTES, size_bytes - len(content))
            command = encode_nv_read(index, length, len(content))
            content += parse_nv_read(self.carrier.transmit(command), length)
        return content

    def define_nv(self, index: int, size_bytes: int) -> None:
        """Define an ordinary index that the owner reads and writes."""
        parse_nv_done(self.carrier.transmit(encode_nv_define(index, size_bytes)))

    def write_nv(self, index: int, data: bytes) -> None:
        """Write an index from its beginning; at most 1024 bytes."""
        parse_nv_done(self.carrier.transmit(encode_nv_write(index, data)))
