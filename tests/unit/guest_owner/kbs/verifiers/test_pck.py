"""Intel's certificate extension, its malformed forms, and chains."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import FormatError
from guest_owner.kbs.verifiers.pck import load_chain, read_platform, verify_chain
from tests.fakes.tdx_quote import FMSPC, FakePck, der, p256_key

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


@pytest.mark.parametrize("pem", [b"", b"no PEM", PCK.chain_pem * 2], ids=["empty", "text", "six"])
def test_chain_that_is_none_is_refused(pem: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        load_chain(pem)
    assert caught.value.reason == "pck.chain"


VERSION_AT = LEAF.index(bytes.fromhex("a003020102"))
NAME_AT = LEAF.index(b"\x0c\x19Intel SGX PCK Certificate")


@pytest.mark.parametrize(
    ("place", "byte"),
    [
        pytest.param(VERSION_AT + 4, 0x3F, id="no such version"),
        pytest.param(VERSION_AT + 7, 0xFF, id="negative serial number"),
        pytest.param(NAME_AT, 0x03, id="a name that is bits"),
        pytest.param(NAME_AT + 2, 0xBE, id="a name that is no text"),
        pytest.param(NAME_AT - 1, 0x06, id="a country of more than two letters"),
    ],
)
def test_certificate_that_the_library_balks_at_is_refused(place: int, byte: int) -> None:
    leaf = bytearray(LEAF)
    leaf[place] = byte
    body = base64.b64encode(bytes(leaf))
    with pytest.raises(FormatError) as caught:
        load_chain(b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n")
    assert (caught.value.reason, caught.value.detail) == ("pck.chain", "not certificates in PEM")


def test_platform_key_on_another_curve_is_refused() -> None:
    class Large(FakePck):
        def certificate(self, *arguments: object) -> x509.Certificate:
            certificate = super().certificate(*arguments)  # type: ignore[arg-type]
            if arguments[0] != "Intel SGX PCK Certificate":
                return certificate
            builder = x509.CertificateBuilder(
                issuer_name=certificate.issuer,
                subject_name=certificate.subject,
                public_key=ec.derive_private_key(7, ec.SECP384R1()).public_key(),
                serial_number=7,
                not_valid_before=certificate.not_valid_before_utc,
                not_valid_after=certificate.not_valid_after_utc,
            )
            return builder.sign(p256_key("platform ca"), SHA256())

    with pytest.raises(FormatError) as caught:
        verify_chain(load_chain(Large().chain_pem), (ROOT,))
    assert caught.value.reason == "pck.chain"
    assert caught.value.detail == "the platform's key is not on P-256"


EXTENSION = PCK.extension()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x30", id="no length"),
        pytest.param(b"\x30\x80", id="indefinite length"),
        pytest.param(b"\x30\x83\0\0\0", id="length of three bytes"),
        pytest.param(b"\x30\x82\0", id="length cut"),
        pytest.param(EXTENSION[:-1], id="cut"),
        pytest.param(EXTENSION + b"\0", id="longer"),
        pytest.param(b"\x31" + EXTENSION[1:], id="a set"),
        pytest.param(der(0x30, der(0x30, der(6, b"\x2a"))), id="row without a value"),
        pytest.param(der(0x30, b""), id="no rows"),
        pytest.param(EXTENSION.replace(FMSPC, FMSPC[::-1])[:-2], id="inner cut"),
        pytest.param(FakePck(fmspc=bytes(5)).extension(), id="short FMSPC"),
        pytest.param(FakePck(ppid=bytes(15)).extension(), id="short PPID"),
        pytest.param(FakePck(components=(256,) + (0,) * 15).extension(), id="component of 256"),
        pytest.param(FakePck(pce_svn=1 << 16).extension(), id="PCESVN of 65536"),
        pytest.param(EXTENSION.replace(b"\x02\x01\x0d", b"\x02\x01\x8d"), id="negative PCESVN"),
        pytest.param(EXTENSION.replace(b"\x02\x01\x0d", b"\x04\x01\x0d"), id="PCESVN as bytes"),
    ],
)
def test_malformed_extension_is_refused(content: bytes) -> None:
    assert read_platform(leaf_with(EXTENSION)).fmspc == FMSPC
    with pytest.raises(FormatError) as caught:
        read_platform(leaf_with(content))
    assert caught.value.reason == "pck.extension"


def test_certificate_without_the_extension_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        read_platform(PCK.root_certificate)
    assert caught.value.reason == "pck.extension"
