"""Invariant: TDX evidence with any change in quote, certificates or log is refused with a
`FormatError` or an `EvidenceRefusedError` and nothing else, or what is signed in it is the same.

Run as `python -m tests.fuzz.fuzz_tdx_verifier [SECONDS [SEED]]`.
"""

import random
import struct

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.verifiers.pck import load_chain
from guest_owner.kbs.verifiers.tdx import verify_evidence
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.verifiers.tdx_values import (
    REPORT_DATA,
    booted_domain,
    tdx_references,
)

TRUSTED = tdx_references()
QUOTE, LOG = booted_domain().quote(REPORT_DATA), FakeBoot().log
_DOMAIN = booted_domain()
CHAIN = [
    one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(_DOMAIN.pck.chain_pem)
]
_OLD_CHAIN = _DOMAIN.pck.chain_pem + b"\0"


def judge(quote: bytes, log: bytes) -> bool:
    """Return whether the evidence is accepted; anything but a proper refusal is an error."""
    evidence = {"quote": encode_base64(quote), "cc_eventlog": encode_base64(log)}
    try:
        verify_evidence(evidence, report_data=REPORT_DATA, initdata_digest=None, references=TRUSTED)
    except (FormatError, EvidenceRefusedError):
        return False
    return True


def signed_parts(quote: bytes) -> tuple[bytes, ...]:
    """Header and body, the quoting enclave's report, the platform's certificate."""
    parsed = parse_tdx_quote(quote)
    leaf = load_chain(parsed.certification.chain_pem)[0]
    return parsed.signed, parsed.certification.report, leaf.tbs_certificate_bytes


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Cut, insert, or change bytes."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                del data[spot : spot + source.randrange(1, 64)]
            case 1:
                data[spot:spot] = source.randbytes(source.randrange(1, 9))
            case 2:
                data[spot : spot + 2] = source.choice((b"\0\0", b"\xff\xff", b"\x30\x82"))
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def with_chain(source: random.Random) -> bytes:
    """Return the quote with one certificate changed in its DER, under correct lengths."""
    chain = list(CHAIN)
    index = source.randrange(len(chain))
    chain[index] = mutate(source, chain[index])
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n"
        + encode_base64(one).encode()
        + b"\n-----END CERTIFICATE-----\n"
        for one in chain
    )
    at = QUOTE.index(_OLD_CHAIN)
    grown = len(pem) - len(_OLD_CHAIN)
    data = bytearray(QUOTE[:at] + pem)
    for offset in (632, 632 + 4 + 128 + 2, at - 4):  # signature data, type 6, type 5
        (length,) = struct.unpack_from("<I", data, offset)
        struct.pack_into("<I", data, offset, length + grown)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check changed evidence for a while; return how many."""
    assert judge(QUOTE, LOG)
    trials = Trials(seconds, seed)
    for source in trials:
        quote, log = QUOTE, LOG
        match source.randrange(3):
            case 0:
                quote = mutate(source, QUOTE)
            case 1:
                quote = with_chain(source)
            case _:
                log = mutate(source, LOG)
        if judge(quote, log):
            assert signed_parts(quote) == signed_parts(QUOTE)
    return trials.count


if __name__ == "__main__":
    run(main)
