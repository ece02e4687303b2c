"""Intel's certificate extension, its malformed forms, and chains."""

import ssl
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import FormatError
from guest_owner.kbs.verifiers.pck import MAX_CERTIFICATES, load_chain, read_platform, verify_chain
from tests.fakes.documents.spoilt_certificates import pem, spoilt_certificates
from tests.fakes.platforms.tdx_quote import FMSPC, FakePck, der, der_oid, p256_key

PCK = FakePck()
ROOT = PCK.root_certificate.public_bytes(Encoding.DER)
LEAF = load_chain(PCK.chain_pem)[0].public_bytes(Encoding.DER)


class Forged(FakePck):
    """A chain whose extension the test writes."""

    content: bytes = b""

    def extension(self) -> bytes:
        return self.content


def leaf_with(content: bytes) -> x509.Certificate:
    forged = Forged()
    forged.content = content
    return load_chain(forged.chain_pem)[0]


def test_chain_gives_the_key_and_its_platform() -> None:
    chain = load_chain(PCK.chain_pem)
    assert len(chain) == 3
    key, root = verify_chain(chain, (ROOT,))
    assert root == ROOT
    assert key == p256_key("pck").public_key()
    platform = read_platform(chain[0])
    assert (platform.fmspc, platform.pce_svn) == (FMSPC, PCK.pce_svn)
    assert platform.ppid == PCK.ppid
    assert tuple(platform.components) == PCK.components


def test_chain_without_its_own_root_reaches_the_registered_one() -> None:
    assert verify_chain(load_chain(PCK.chain_pem)[:2], (ROOT,))[0].key_size == 256
    with pytest.raises(FormatError) as caught:
        verify_chain(load_chain(PCK.chain_pem)[:1], (ROOT,))
    assert caught.value.reason == "pck.chain"


def chain_through(intermediates: int) -> tuple[x509.Certificate, ...]:
    """A chain through so many authorities, each of which allows for all below it."""
    names = ["root", *(f"authority {number}" for number in range(intermediates))]
    above = [PCK.certificate("root", "root", "root", "root", 9)]
    for issuer, name in pairwise(names):
        above.append(PCK.certificate(name, name, issuer, issuer, 8))
    leaf = PCK.certificate("leaf", "pck", names[-1], names[-1], None, PCK.extension())
    return leaf, *reversed(above)


def test_chain_through_more_authorities_than_any_of_intels_is_refused() -> None:
    for intermediates in (1, 2):
        chain = chain_through(intermediates)
        root = chain[-1].public_bytes(Encoding.DER)
        assert verify_chain(chain, (root,)) == (p256_key("pck").public_key(), root)
    chain = chain_through(3)
    with pytest.raises(FormatError, match="max depth"):
        verify_chain(chain, (chain[-1].public_bytes(Encoding.DER),))


@pytest.mark.parametrize("text", [b"", b"no PEM"], ids=["empty", "text"])
def test_chain_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        load_chain(text)
    assert caught.value.reason == "pck.chain"


def test_chain_may_have_as_many_certificates_as_the_cap_says_and_no_more() -> None:
    assert len(load_chain(PCK.chain_pem + pem(LEAF) * (MAX_CERTIFICATES - 3))) == MAX_CERTIFICATES
    with pytest.raises(FormatError) as caught:
        load_chain(PCK.chain_pem + pem(LEAF) * (MAX_CERTIFICATES - 2))
    assert (caught.value.reason, "at most" in caught.value.detail) == ("pck.chain", True)


def test_chain_is_refused_where_no_root_is_registered() -> None:
    with pytest.raises(FormatError) as caught:
        verify_chain(load_chain(PCK.chain_pem), ())
    assert caught.value.reason == "pck.chain"
    assert caught.value.detail == "no root of the vendor is registered"


@pytest.mark.parametrize("leaf", spoilt_certificates(LEAF, "Intel SGX PCK Certificate"))
def test_certificate_that_the_library_balks_at_is_refused(leaf: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        load_chain(pem(leaf))
    assert (caught.value.reason, caught.value.detail) == ("pck.chain", "not certificates in PEM")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.derive_private_key(7, ec.SECP384R1()), id="P-384"),
        pytest.param(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), id="Ed25519"),
    ],
)
def test_platform_key_on_another_curve_is_refused(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    class Other(FakePck):
        def certificate(self, *arguments: object) -> x509.Certificate:
            certificate = super().certificate(*arguments)  # type: ignore[arg-type]
            if arguments[0] != "Intel SGX PCK Certificate":
                return certificate
            builder = x509.CertificateBuilder(
                issuer_name=certificate.issuer,
                subject_name=certificate.subject,
                public_key=key.public_key(),
                serial_number=7,
                not_valid_before=certificate.not_valid_before_utc,
                not_valid_after=certificate.not_valid_after_utc,
            )
            return builder.sign(p256_key("platform ca"), SHA256())

    with pytest.raises(FormatError) as caught:
        verify_chain(load_chain(Other().chain_pem), (ROOT,))
    assert caught.value.reason == "pck.chain"
    assert caught.value.detail == "the platform's key is not on P-256"


def issue_again(flipped: int) -> bytes:
    """The platform's certificate with bits of its key flipped, signed as before."""
    leaf, *others = load_chain(PCK.chain_pem)
    point = p256_key("pck").public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    changed = point[:-1] + bytes((point[-1] ^ flipped,))
    signed = leaf.tbs_certificate_bytes.replace(point, changed)
    signature = p256_key("platform ca").sign(signed, ec.ECDSA(SHA256()))
    algorithm = der(0x30, der_oid("1.2.840.10045.4.3.2"))
    content = signed + algorithm + der(3, b"\0" + signature)
    return ssl.DER_cert_to_PEM_cert(der(0x30, content)).encode() + b"".join(
        one.public_bytes(Encoding.PEM) for one in others
    )


def test_platform_key_that_is_no_point_is_refused() -> None:
    assert verify_chain(load_chain(issue_again(0)), (ROOT,))[0].key_size == 256
    with pytest.raises(FormatError) as caught:
        verify_chain(load_chain(issue_again(1)), (ROOT,))
    assert caught.value.reason == "pck.chain"


EXTENSION = PCK.extension()
PCE_SVN = b"\x02\x01\x0d"
ONE_ELEMENT = "expected one element with tag 0x30"
SIZES = "PPID has 16 bytes, FMSPC 6, and a component one"
RANGE = "a version number is out of range"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        pytest.param(b"", "an element is cut", id="empty"),
        pytest.param(b"\x30", "an element is cut", id="no length"),
        pytest.param(b"\x30\x80", "a length is malformed", id="indefinite length"),
        pytest.param(b"\x30\x83\0\0\0", "a length is malformed", id="length of three bytes"),
        pytest.param(b"\x30\x82\0", "a length is malformed", id="length cut"),
        pytest.param(EXTENSION[:-1], "an element is cut", id="cut"),
        pytest.param(EXTENSION + b"\0", ONE_ELEMENT, id="longer"),
        pytest.param(b"\x31" + EXTENSION[1:], ONE_ELEMENT, id="a set"),
        pytest.param(
            der(0x30, der(0x30, der(6, b"\x2a"))), "a row is not a pair", id="row without a value"
        ),
        pytest.param(der(0x30, b""), "no row (2,)", id="no rows"),
        pytest.param(b"\x30\x81\0", "no row (2,)", id="no rows, in two bytes of length"),
        pytest.param(der(0x30, b"\x30"), "an element is cut", id="row of one byte"),
        pytest.param(FakePck(fmspc=bytes(5)).extension(), SIZES, id="short FMSPC"),
        pytest.param(FakePck(ppid=bytes(15)).extension(), SIZES, id="short PPID"),
        pytest.param(
            FakePck(components=(256,) + (0,) * 15).extension(), SIZES, id="component of 256"
        ),
        pytest.param(FakePck(pce_svn=1 << 16).extension(), RANGE, id="PCESVN of 65536"),
        pytest.param(EXTENSION.replace(PCE_SVN, b"\x02\x01\x8d"), RANGE, id="negative PCESVN"),
        pytest.param(EXTENSION.replace(PCE_SVN, b"\x02\x81\0"), RANGE, id="PCESVN of no bytes"),
        pytest.param(
            EXTENSION.replace(PCE_SVN, b"\x04\x01\x0d"),
            "expected one element with tag 0x02",
            id="PCESVN as bytes",
        ),
    ],
)
def test_malformed_extension_is_refused(content: bytes, detail: str) -> None:
    assert read_platform(leaf_with(EXTENSION)).fmspc == FMSPC
    with pytest.raises(FormatError) as caught:
        read_platform(leaf_with(content))
    assert (caught.value.reason, caught.value.detail) == ("pck.extension", detail)


def test_highest_versions_are_read() -> None:
    highest = FakePck(components=(255,) * 16, pce_svn=65535)
    platform = read_platform(load_chain(highest.chain_pem)[0])
    assert (platform.components, platform.pce_svn) == (b"\xff" * 16, 65535)


def test_certificate_without_the_extension_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        read_platform(PCK.root_certificate)
    assert caught.value.reason == "pck.extension"
