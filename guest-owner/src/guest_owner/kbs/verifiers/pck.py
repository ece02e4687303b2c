"""Intel's PCK certificates: the chain from a platform's key to a registered root, and what it says.

A Provisioning Certification Key belongs to one platform at one level of its firmware and signs the
quoting enclaves there. Its certificate carries the platform's identity in an extension of Intel's
(SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5); the
chain is verified as RFC 5280 says, at the present time. Revocation lists are not asked for: a
registered floor above the revoked level, the machine's id among `revoked_ppids`, or withdrawing the
root, has that effect without a network.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from ccinit.errors import FormatError
from guest_owner.kbs.references.roots import load_certificate

MAX_CERTIFICATES = 4
_OID = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_OID_CONTENT = bytes.fromhex("2a864886f84d010d01")
_SEQUENCE, _INTEGER, _OCTETS, _OBJECT_IDENTIFIER = 0x30, 0x02, 0x04, 0x06
# Numbers below the extension's own.
_PPID, _TCB, _FMSPC, _PCE_SVN = 1, 2, 4, 17
_COMPONENTS = range(1, 17)
_MAX_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PckPlatform:
    """What a PCK certificate says of its platform.

    Attributes:
        ppid: of this one machine, 16 bytes.
        fmspc: family, model, stepping, platform type, custom SKU: 6 bytes.
        components: 16 version numbers, those of CPUSVN.
        pce_svn: of the provisioning enclave.
        root: the registered certificate that it chains to, DER; b"" before the chain is verified.
    """

    ppid: bytes
    fmspc: bytes
    components: bytes
    pce_svn: int
    root: bytes = b""


def load_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a quote, the platform's first.

    Raises:
        FormatError: `pck.chain`.
    """
    try:
        with warnings.catch_warnings():
            # What the library only warns of is malformed, too.
            warnings.simplefilter("error")
            chain = tuple(x509.load_pem_x509_certificates(pem))
            # The library reads names only on access: do so here, and not first in an error's text.
            _names = [(certificate.subject, certificate.issuer) for certificate in chain]
    except (ValueError, TypeError, x509.InvalidVersion, UserWarning) as error:
        raise FormatError("pck.chain", "not certificates in PEM") from error
    if len(chain) > MAX_CERTIFICATES:
        raise FormatError(
            "pck.chain", f"expected at most {MAX_CERTIFICATES} certificates, found {len(chain)}"
        )
    return chain


def verify_chain(
    chain: tuple[x509.Certificate, ...], roots: tuple[bytes, ...]
) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """Return the PCK and the one of the registered roots that the chain leads to, DER all.

    Raises:
        FormatError: `pck.chain`, with what does not hold.
    """
    if not roots:
        raise FormatError("pck.chain", "no root of the vendor is registered")
    policy = (
        PolicyBuilder()
        .store(Store([x509.load_der_x509_certificate(root) for root in roots]))
        .time(datetime.now(UTC))
        .max_chain_depth(2)
        # The PCK certificate has no names or usages of TLS; its extension is read elsewhere.
        .extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
        )
    )
    try:
        verified = policy.build_client_verifier().verify(chain[0], list(chain[1:]))
        key = chain[0].public_key()
    except (VerificationError, UnsupportedAlgorithm, ValueError) as error:
        raise FormatError("pck.chain", str(error)[:200]) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError("pck.chain", "the platform's key is not on P-256")
    return key, verified.chain[-1].public_bytes(Encoding.DER)


def check_registrable(data: bytes) -> None:
    """Refuse a certificate that no chain can end at: not one of an authority.

    Args:
        data: DER.

    Raises:
        FormatError: `root.kind`, `pck.root`.
    """
    certificate = load_certificate(data, "pck.root")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        is_authority = constraints.value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        is_authority = False
    if not is_authority:
        raise FormatError("root.kind", "not an authority's certificate: expected Intel SGX Root CA")


def read_platform(certificate: x509.Certificate) -> PckPlatform:
    """Read the extension of a PCK certificate.

    Raises:
        FormatError: `pck.extension`.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(_OID).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise FormatError("pck.extension", "the certificate has none of Intel's") from error
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise FormatError("pck.extension", "the certificate has none of Intel's")
    rows = dict(_rows(_content(extension.value, _SEQUENCE)))
    tcb = dict(_rows(_content(_row(rows, _TCB), _SEQUENCE)))
    components = [_integer(_row(tcb, _TCB, number)) for number in _COMPONENTS]
    fmspc = _content(_row(rows, _FMSPC), _OCTETS)
    ppid = _content(_row(rows, _PPID), _OCTETS)
    if (len(ppid), len(fmspc)) != (16, 6) or any(component > 0xFF for component in components):
        raise FormatError("pck.extension", "PPID has 16 bytes, FMSPC 6, and a component one")
    return PckPlatform(
        ppid=ppid,
        fmspc=fmspc,
        components=bytes(components),
        pce_svn=_integer(_row(tcb, _TCB, _PCE_SVN)),
    )


def _row(rows: dict[bytes, bytes], *numbers: int) -> bytes:
    """Return the value, still encoded, of one of Intel's numbers."""
    content = _OID_CONTENT + bytes(numbers)
    try:
        return rows[bytes((_OBJECT_IDENTIFIER, len(content))) + content]
    except KeyError as error:
        raise FormatError("pck.extension", f"no row {numbers}") from error


def _rows(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pairs of a sequence of {OID, value}, both still encoded."""
    for row in _elements(data):
        parts = tuple(_elements(_content(row, _SEQUENCE)))
        if len(parts) != 2:
            raise FormatError("pck.extension", "a row is not a pair")
        yield parts[0], parts[1]


def _elements(data: bytes) -> Iterator[bytes]:
    while data:
        header, length = _header(data)
        yield data[: header + length]
        data = data[header + length :]


def _content(element: bytes, tag: int) -> bytes:
    header, length = _header(element)
    if element[0] != tag or header + length != len(element):
        raise FormatError("pck.extension", f"expected one element with tag {tag:#04x}")
    return element[header:]


def _header(data: bytes) -> tuple[int, int]:
    """Return the sizes of an element's header and content (X.690, definite lengths)."""
    if len(data) < 2:
        raise FormatError("pck.extension", "an element is cut")
    header, length = 2, data[1]
    if length & 0x80:
        size = length & 0x7F
        header += size
        if not 0 < size <= _MAX_LENGTH_BYTES or len(data) < header:
            raise FormatError("pck.extension", "a length is malformed")
        length = int.from_bytes(data[2:header], "big")
    if header + length > len(data):
        raise FormatError("pck.extension", "an element is cut")
    return header, length


def _integer(element: bytes) -> int:
    content = _content(element, _INTEGER)
    value = int.from_bytes(content, "big", signed=True)
    if not content or not 0 <= value <= 0xFFFF:
        raise FormatError("pck.extension", "a version number is out of range")
    return value
