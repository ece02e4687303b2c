"""Keys of AMD's secure processors: from a registered root to the key that signs reports.

"Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (AMD 57230):
an ARK signs itself and an ASK (or ASVK), which signs the VCEK of one chip (or the VLEK of one
provider) at one firmware version. All signatures are RSASSA-PSS with SHA-384 under keys of 4096
bits; the endorsement key is on P-384, and its version stands in extensions of its certificate.

Dates are not checked: to retire a key, an owner demands newer firmware than it stands for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.evidence.snp import CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import (
    SIGNED_BY_VCEK,
    SIGNED_BY_VLEK,
    SIGNING_KEY_MASK,
    SIGNING_KEY_SHIFT,
    TcbVersion,
)
from guest_owner.kbs.references.requirements import SnpProduct
from guest_owner.kbs.references.roots import load_certificate

_AMD = "1.3.6.1.4.1.3704.1"
_PRODUCT = x509.ObjectIdentifier(f"{_AMD}.2")
_BOOTLOADER = x509.ObjectIdentifier(f"{_AMD}.3.1")
_TEE = x509.ObjectIdentifier(f"{_AMD}.3.2")
_SNP = x509.ObjectIdentifier(f"{_AMD}.3.3")
_MICROCODE = x509.ObjectIdentifier(f"{_AMD}.3.8")
_FMC = x509.ObjectIdentifier(f"{_AMD}.3.9")
_HWID = x509.ObjectIdentifier(f"{_AMD}.4")
_CSP_ID = x509.ObjectIdentifier(f"{_AMD}.5")

_ISSUER_BITS = 4096
_SALT_BYTES = 48
_INTEGER, _OCTET_STRING, _IA5_STRING = 0x02, 0x04, 0x16
_PADDING = PSS(mgf=MGF1(SHA384()), salt_length=_SALT_BYTES)
# Variants that share the vendor's chain of their generation.
_PRODUCTS = {
    **{product.value: product for product in SnpProduct},
    "Bergamo": SnpProduct.GENOA,
    "Siena": SnpProduct.GENOA,
}
KEY_NUMBERS = {CertType.VCEK: SIGNED_BY_VCEK, CertType.VLEK: SIGNED_BY_VLEK}
"""How a report names the kind of key that signed it."""

_LEAVES = {CertType.VCEK: "SEV-VCEK", CertType.VLEK: "SEV-VLEK"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """A key that signs reports, with what its certificate says about it.

    Attributes:
        kind: VCEK or VLEK.
        hwid: of the chip; empty for a VLEK.
        csp_id: of the provider that a VLEK belongs to; empty for a VCEK.
        registered: the certificates of its chain that are, DER; none before the chain is verified.
    """

    kind: CertType
    key: ec.EllipticCurvePublicKey
    product: SnpProduct
    tcb: TcbVersion
    hwid: bytes
    csp_id: str
    registered: tuple[bytes, ...] = ()


def verify_endorsement_key(evidence: SnpEvidence, trusted: Iterable[bytes]) -> EndorsementKey:
    """Return the key that the evidence's certificates name, if a registered root stands behind it.

    The steps, all of them MUST:

     1. The evidence has one VCEK or VLEK, or both, of which the report names one; or, if it has
        neither, one is registered for its chip and firmware [`snp.endorsement_key`].
     2. Some registered certificate signs itself [`snp.root`].
     3. That one has signed an intermediate, registered or from the evidence, which has signed the
        key's certificate [`snp.chain`].
     4. The certificate has the form of its kind [`snp.endorsement_key`].

    Args:
        evidence: untrusted.
        trusted: registered certificates for the platform, DER.

    Raises:
        VerificationError, FormatError: as named above.
    """
    registered = tuple(map(_load, trusted))
    offered = tuple(
        _load(entry.data) for entry in evidence.certificates if entry.cert_type is CertType.ASK
    )
    kind, leaf = _find_leaf(evidence, registered)
    roots = tuple(known for known in registered if _signed(known, known))
    if not roots:
        raise VerificationError("snp.root", "no registered certificate signs itself")
    chains = (
        (leaf, issuer, root)
        for issuer in (*registered, *offered)
        for root in roots
        if issuer not in roots and _signed(issuer, root) and _signed(leaf, issuer)
    )
    chain = next(chains, None)
    if chain is None:
        raise VerificationError("snp.chain", f"no registered root stands behind the {kind}")
    own = (known.public_bytes(Encoding.DER) for known in chain if known in registered)
    return replace(_read_key(leaf, kind), registered=tuple(own))


def check_registrable(data: bytes) -> None:
    """Refuse a certificate that is no link of AMD's chains: neither an issuer's nor a chip's.

    Args:
        data: DER.

    Raises:
        FormatError: `root.kind`, `snp.certificate`.
    """
    certificate = _load(data)
    try:
        key = certificate.public_key()
        if isinstance(key, RSAPublicKey) and key.key_size == _ISSUER_BITS:
            return
        _read_key(certificate, CertType.VCEK)
    except (CcinitError, UnsupportedAlgorithm, ValueError) as error:
        detail = f"not AMD's ARK or ASK, with RSA keys of {_ISSUER_BITS} bits, nor a chip's VCEK"
        raise FormatError("root.kind", detail) from error


def _find_leaf(
    evidence: SnpEvidence, registered: tuple[x509.Certificate, ...]
) -> tuple[CertType, x509.Certificate]:
    report, offered = evidence.report, evidence.certificates
    leaves = [entry for entry in offered if entry.cert_type in _LEAVES]
    named = report.key_info >> SIGNING_KEY_SHIFT & SIGNING_KEY_MASK
    leaves = [entry for entry in leaves if KEY_NUMBERS[entry.cert_type] == named] or leaves
    if len(leaves) == 1:
        return leaves[0].cert_type, _load(leaves[0].data)
    if leaves:
        raise VerificationError("snp.endorsement_key", f"{len(leaves)} keys in the evidence")
    for known in registered:
        try:
            key = _read_key(known, CertType.VCEK)
        except CcinitError:
            continue  # a root or an intermediate
        if key.hwid == report.chip_id and key.tcb == report.reported_tcb:
            return CertType.VCEK, known
    raise VerificationError(
        "snp.endorsement_key", "none in the evidence, none registered for its chip and firmware"
    )


def _load(data: bytes) -> x509.Certificate:
    return load_certificate(data, "snp.certificate")


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's key signed the certificate, in the one way that AMD signs."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        key = issuer.public_key()
        if not isinstance(key, RSAPublicKey) or key.key_size != _ISSUER_BITS:
            return False
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, _PADDING, SHA384())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _read_key(certificate: x509.Certificate, kind: CertType) -> EndorsementKey:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if [name.value for name in names] != [_LEAVES[kind]]:
        raise FormatError("snp.endorsement_key", f"the certificate is not one of a {kind}")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FormatError("snp.endorsement_key", "the key is not on P-384")
    product = _read_product(certificate)
    return EndorsementKey(
        kind=kind,
        key=key,
        product=product,
        tcb=TcbVersion(
            fmc=_read_byte(certificate, _FMC) if product is SnpProduct.TURIN else None,
            bootloader=_read_byte(certificate, _BOOTLOADER),
            tee=_read_byte(certificate, _TEE),
            snp=_read_byte(certificate, _SNP),
            microcode=_read_byte(certificate, _MICROCODE),
        ),
        hwid=_read_hwid(certificate) if kind is CertType.VCEK else b"",
        csp_id=_read_text(certificate, _CSP_ID) if kind is CertType.VLEK else "",
    )


def _read_product(certificate: x509.Certificate) -> SnpProduct:
    # `Milan-B0`: the stepping does not matter here.
    text = _read_text(certificate, _PRODUCT)
    name = text.partition("-")[0]
    if name not in _PRODUCTS:
        raise FormatError("snp.endorsement_key", f"unknown product {text[:40]!r}")
    return _PRODUCTS[name]


def _read_text(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    return _content(_extension(certificate, oid), _IA5_STRING).decode("ascii", "replace")


def _read_byte(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> int:
    number = int.from_bytes(_content(_extension(certificate, oid), _INTEGER), "big")
    if number > 0xFF:
        raise FormatError("snp.endorsement_key", f"{oid.dotted_string} is not a byte")
    return number


def _read_hwid(certificate: x509.Certificate) -> bytes:
    """Return 64 bytes; Turin's own 8 are followed by zeros in a report."""
    value = _extension(certificate, _HWID)
    if len(value) not in {8, 64}:
        value = _content(value, _OCTET_STRING)
    if len(value) not in {8, 64}:
        raise FormatError("snp.endorsement_key", "a hardware id has 8 or 64 bytes")
    return value.ljust(64, b"\0")


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise FormatError("snp.endorsement_key", f"no extension {oid.dotted_string}") from error
    return value.value if isinstance(value, x509.UnrecognizedExtension) else b""


def _content(value: bytes, tag: int) -> bytes:
    """Return the content of one DER element of fewer than 128 bytes."""
    if len(value) < 3 or value[0] != tag or value[1] != len(value) - 2:
        raise FormatError("snp.endorsement_key", "an extension of another type")
    return value[2:]
