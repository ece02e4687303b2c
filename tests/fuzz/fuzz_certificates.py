"""Invariant: a certificate that its authority has signed, whatever it says, is taken or refused
with a `CcinitError` by all who read certificates; and of a signer's that is taken the time, the
issuer and the name are as they have to be, and OpenSSL can read it, too.

What is signed is changed as DER, so that lengths stay right and the chain holds; a change of bytes
would never get beyond the signature.

Run as `python -m tests.fuzz.fuzz_certificates [SECONDS [SEED]]`.
"""

import base64
import contextlib
import json
import random
import ssl
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError
from ccinit.formats.signature.image_policy import Fulcio
from ccinit.pull.signature.certificate import load_der_certificate, load_pem_certificates
from ccinit.pull.signature.fulcio import verify_certificate
from guest_owner.kbs.attestation_requests.se import read_host_key
from guest_owner.kbs.passports.key_set import parse_key_set
from guest_owner.kbs.references.roots import load_certificate, parse_certificates
from guest_owner.kbs.verifiers.pck import load_chain, read_platform, verify_chain
from tests.fakes.images import signatures as fake
from tests.fakes.platforms.tdx_quote import FakePck, der, p256_key
from tests.fuzz.trials import Trials, run

AUTHORITY = fake.Authority()
PCK = FakePck()
PCK_CHAIN = x509.load_pem_x509_certificates(PCK.chain_pem)
PCK_ROOT = PCK.root_certificate.public_bytes(Encoding.DER)
FULCIO = Fulcio(roots=b"", oidc_issuer=fake.ISSUER, subject_email=fake.SUBJECT)
SIGNER = AUTHORITY.issue(ec.generate_private_key(ec.SECP256R1()))
ODD = (
    x509.CertificateBuilder(
        issuer_name=SIGNER.issuer,
        subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE")]),
        public_key=SIGNER.public_key(),
        serial_number=7,
        not_valid_before=SIGNER.not_valid_before_utc,
        not_valid_after=SIGNER.not_valid_after_utc,
    )
    .add_extension(
        x509.SubjectAlternativeName(
            [
                x509.RFC822Name(fake.SUBJECT),
                x509.DirectoryName(SIGNER.issuer),
                x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\0"),
                x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            ]
        ),
        critical=False,
    )
    .add_extension(x509.NameConstraints([x509.DNSName("b")], None), critical=True)
    .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    .sign(AUTHORITY.key, SHA256())
)
TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x1E, 0x30, 0x81, 0xA4)
CONTENTS = (b"", b"\0", b"\xff" * 20, b"500101000000Z", b"99991231235959Z", b"\xbe\xef")
CONSTRUCTED, OCTETS = 0x20, 0x04


def split(data: bytes, start: int = 0) -> tuple[int, int]:
    """Return where the content of the element at `start` begins and ends."""
    length, begin = data[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + size], "big"), begin + size
    return begin, begin + length


def children(content: bytes) -> list[bytes]:
    found, start = [], 0
    while start < len(content):
        _, end = split(content, start)
        found.append(content[start:end])
        start = end
    return found


def mutate(source: random.Random, element: bytes) -> bytes:
    """Change one element somewhere below; the lengths above it follow."""
    begin, end = split(element)
    tag, content = element[0], element[begin:end]
    is_nested = tag == OCTETS and content[:1] == b"\x30" and split(content)[1] == len(content)
    if (tag & CONSTRUCTED or is_nested) and content and source.randrange(10):
        below = children(content)
        spot = source.randrange(len(below))
        match source.randrange(12):
            case 0:
                below.insert(spot, below[spot])
            case 1:
                del below[spot]
            case 2:
                below[spot], below[0] = below[0], below[spot]
            case _:
                below[spot] = mutate(source, below[spot])
        return der(tag, b"".join(below))
    changed = bytearray(content)
    match source.randrange(4):
        case 0 if changed:
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
        case 1:
            del changed[source.randrange(len(changed) + 1) :]
        case 2:
            return der(source.choice(TAGS), content)
        case _:
            changed[:] = source.choice(CONTENTS)
    return der(tag, bytes(changed))


def issue(
    source: random.Random, honest: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> bytes:
    """Return a certificate like an honest one, DER, that says something else."""
    whole = honest.public_bytes(Encoding.DER)
    _, algorithm, _ = children(whole[slice(*split(whole))])
    signed = mutate(source, honest.tbs_certificate_bytes)
    signature = key.sign(signed, ec.ECDSA(SHA256()))
    return der(0x30, signed + algorithm + der(3, b"\0" + signature))


def pem(*certificates: bytes) -> bytes:
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode()


def check_signer(data: bytes) -> bool:
    """Let a signer's certificate be judged; return whether it is taken."""
    try:
        leaf = load_der_certificate(data, "fuzz.leaf")
        verify_certificate(
            leaf,
            (AUTHORITY.intermediate,),
            roots=(AUTHORITY.root,),
            fulcio=FULCIO,
            seconds=fake.NOW,
        )
    except CcinitError:
        return False
    assert leaf.not_valid_before_utc.timestamp() <= fake.NOW <= leaf.not_valid_after_utc.timestamp()
    assert fake.SUBJECT.encode() in data
    assert fake.ISSUER.encode() in data
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data)
    return True


def attempt(read: Callable[[bytes], object], data: bytes) -> bool:
    with contextlib.suppress(CcinitError):
        read(data)
        return True
    return False


def check_platform(data: bytes) -> bool:
    """Let a platform's certificate be judged; return whether it is taken."""
    chain = pem(data) + PCK_CHAIN[1].public_bytes(Encoding.PEM)
    attempt(lambda text: read_platform(load_chain(text)[0]), chain)
    return attempt(lambda text: verify_chain(load_chain(text), (PCK_ROOT,)), chain)


def check_readers(data: bytes) -> None:
    attempt(lambda found: load_certificate(found, "fuzz.certificate"), data)
    attempt(parse_certificates, pem(data))
    attempt(lambda text: load_pem_certificates(text, "fuzz.pem"), pem(data))
    attempt(read_host_key, data)
    key = {"kid": "k", "kty": "RSA", "x5c": [base64.b64encode(data).decode()]}
    attempt(parse_key_set, json.dumps({"keys": [key]}).encode())


def main(seconds: float, seed: int) -> int:
    """Issue certificates for a while; return how many."""
    trials = Trials(seconds, seed)
    assert check_signer(SIGNER.public_bytes(Encoding.DER))
    assert check_platform(PCK_CHAIN[0].public_bytes(Encoding.DER))
    runs = taken = 0
    for source in trials:
        for honest in (SIGNER, ODD):
            data = issue(source, honest, AUTHORITY.key)
            taken += check_signer(data)
            check_readers(data)
        taken += check_platform(issue(source, PCK_CHAIN[0], p256_key("platform ca")))
        runs += 3
    trials.require(taken, one_in=16)
    return runs


if __name__ == "__main__":
    run(main)
