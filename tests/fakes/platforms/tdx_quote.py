"""A machine with TDX in a few lines: an Intel-shaped chain, a quoting enclave, a trust domain.

The bytes are laid out here a second time, from Intel's tables (TDX DCAP Quoting Library API,
appendix A; SGX PCK Certificate and CRL Profile, section 1.3.5), and not with the project's own
readers: parser and fake can then only agree if both follow the specification. Every attribute may
be changed before quoting, so that a quote is wrong in one way and still properly signed.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
FMSPC = bytes.fromhex("00806f050000")
QE_SIGNER = hashlib.sha256(b"who signed the quoting enclave").digest()
SGX_EXTENSIONS = "1.2.840.113741.1.13.1"


def measurement(label: str) -> bytes:
    return hashlib.sha384(label.encode()).digest()


@cache
def p256_key(label: str) -> ec.EllipticCurvePrivateKey:
    """One key for each label; the numbers say nothing to anybody else."""
    number = int.from_bytes(hashlib.sha256(label.encode()).digest(), "big") >> 1
    return ec.derive_private_key(number, ec.SECP256R1())


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_public_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return bytes((tag, 0x82)) + size.to_bytes(2, "big") + content


def der_oid(text: str) -> bytes:
    first, second, *rest = (int(part) for part in text.split("."))
    content = bytes((40 * first + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return der(6, content)


def der_integer(number: int) -> bytes:
    return der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


@dataclass(kw_only=True)
class FakePck:
    """The chain above a platform's PCK, and what the PCK certificate says of the platform."""

    root: str = "root"
    intermediate_issuer: str | None = None
    ppid: bytes = bytes(range(16))
    fmspc: bytes = FMSPC
    pce_svn: int = 13
    components: tuple[int, ...] = (7, 7, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0)
    intermediate_is_ca: bool = True
    begins: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    days: int = 3650

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return p256_key("pck")

    @property
    def root_certificate(self) -> x509.Certificate:
        return self.certificate("Intel SGX Root CA", self.root, "Intel SGX Root CA", self.root, 1)

    @property
    def chain_pem(self) -> bytes:
        intermediate = self.certificate(
            "Intel SGX PCK Platform CA",
            "platform ca",
            "Intel SGX Root CA",
            self.intermediate_issuer or self.root,
            0 if self.intermediate_is_ca else None,
        )
        leaf = self.certificate(
            "Intel SGX PCK Certificate",
            "pck",
            "Intel SGX PCK Platform CA",
            "platform ca",
            None,
            self.extension(),
        )
        return b"".join(
            one.public_bytes(Encoding.PEM) for one in (leaf, intermediate, self.root_certificate)
        )

    def extension(self) -> bytes:
        """The SGX extension of a PCK certificate, DER."""
        svns = [
            der(0x30, der_oid(f"{SGX_EXTENSIONS}.2.{index}") + der_integer(svn))
            for index, svn in enumerate((*self.components, self.pce_svn), 1)
        ]
        cpu_svn = bytes(svn & 0xFF for svn in self.components)
        svns.append(der(0x30, der_oid(f"{SGX_EXTENSIONS}.2.18") + der(4, cpu_svn)))
        rows = (
            (1, der(4, self.ppid)),
            (2, der(0x30, b"".join(svns))),
            (3, der(4, bytes(2))),
            (4, der(4, self.fmspc)),
            (5, der(0x0A, b"\x01")),
            (6, der(4, bytes(16))),
            (7, der(0x30, der(0x30, der_oid(f"{SGX_EXTENSIONS}.7.1") + der(1, b"\xff")))),
        )
        return der(
            0x30,
            b"".join(
                der(0x30, der_oid(f"{SGX_EXTENSIONS}.{number}") + row) for number, row in rows
            ),
        )

    def certificate(
        self,
        subject: str,
        key: str,
        issuer: str,
        issuer_key: str,
        path_length: int | None,
        extension: bytes | None = None,
    ) -> x509.Certificate:
        is_ca = path_length is not None
        public, signer = p256_key(key).public_key(), p256_key(issuer_key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(issuer))
            .public_key(public)
            .serial_number(int.from_bytes(hashlib.sha256(subject.encode()).digest()[:19], "big"))
            .not_valid_before(self.begins)
            .not_valid_after(self.begins + timedelta(days=self.days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
            .add_extension(_key_usage(is_ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
        )
        if extension is not None:
            oid = x509.ObjectIdentifier(SGX_EXTENSIONS)
            builder = builder.add_extension(
                x509.UnrecognizedExtension(oid, extension), critical=False
            )
        return builder.sign(signer, SHA256(), ecdsa_deterministic=True)


@dataclass(kw_only=True)
class FakeTdx:
    """One trust domain on one platform; `quote` signs whatever its attributes say."""

    pck: FakePck = field(default_factory=FakePck)
    version: int = 4
    key_type: int = 2
    tee_type: int = 0x81
    body_type: int = 2
    vendor: bytes = VENDOR_INTEL
    tee_tcb_svn: bytes = bytes((5, 1, 2)) + bytes(13)
    mrseam: bytes = measurement("TDX module")
    mrsignerseam: bytes = bytes(48)
    seam_attributes: int = 0
    td_attributes: int = 1 << 28  # SEPT_VE_DISABLE
    xfam: int = 0x0602E7
    mrtd: bytes = measurement("firmware")
    mrconfigid: bytes = bytes(48)
    mrowner: bytes = bytes(48)
    mrownerconfig: bytes = bytes(48)
    rtmrs: list[bytes] = field(default_factory=lambda: [bytes(48)] * 4)
    tee_tcb_svn_2: bytes = bytes((5, 1, 2)) + bytes(13)
    mrservicetd: bytes = bytes(48)
    qe_misc_select: int = 0
    qe_attributes: bytes = bytes((0x11,)) + bytes(7) + b"\xe7" + bytes(7)
    qe_signer: bytes = QE_SIGNER
    qe_product: int = 2
    qe_svn: int = 8
    qe_binding: bytes | None = None
    qe_authentication: bytes = bytes(range(32))
    qe_report_signer: str = "pck"
    quote_signer: str = "attestation key"
    attestation_key: str = "attestation key"
    tail: bytes = b""

    def body(self, report_data: bytes) -> bytes:
        fields = (
            self.tee_tcb_svn,
            self.mrseam,
            self.mrsignerseam,
            struct.pack("<QQQ", self.seam_attributes, self.td_attributes, self.xfam),
            self.mrtd,
            self.mrconfigid,
            self.mrowner,
            self.mrownerconfig,
            *self.rtmrs,
            report_data.ljust(64, b"\0"),
        )
        extra = self.tee_tcb_svn_2 + self.mrservicetd if self.body_type == 3 else b""
        return b"".join(fields) + extra

    def qe_report(self) -> bytes:
        key = raw_public_key(p256_key(self.attestation_key))
        binding = self.qe_binding
        if binding is None:
            binding = hashlib.sha256(key + self.qe_authentication).digest()
        return b"".join(
            (
                bytes(self.pck.components),
                struct.pack("<I28x", self.qe_misc_select),
                self.qe_attributes,
                hashlib.sha256(b"quoting enclave").digest() + bytes(32),
                self.qe_signer + bytes(96),
                struct.pack("<HH60x", self.qe_product, self.qe_svn),
                binding.ljust(64, b"\0"),
            )
        )

    def certification(self) -> bytes:
        """What vouches for the attestation key: the same in every quote of a platform."""
        report = self.qe_report()
        chain = self.pck.chain_pem + b"\0"
        return (
            report
            + raw_signature(p256_key(self.qe_report_signer), report)
            + struct.pack("<H", len(self.qe_authentication))
            + self.qe_authentication
            + struct.pack("<HI", 5, len(chain))
            + chain
        )

    def quote(self, report_data: bytes) -> bytes:
        """Sign a quote over the domain as it is."""
        header = struct.pack("<HHI4x", self.version, self.key_type, self.tee_type)
        signed = header + self.vendor + bytes(20)
        body = self.body(report_data)
        if self.version == 5:
            signed += struct.pack("<HI", self.body_type, len(body))
        signed += body
        nested = self.certification()
        signature_data = (
            raw_signature(p256_key(self.quote_signer), signed)
            + raw_public_key(p256_key(self.attestation_key))
            + struct.pack("<HI", 6, len(nested))
            + nested
        )
        return signed + struct.pack("<I", len(signature_data)) + signature_data + self.tail


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


def _key_usage(is_ca: bool) -> x509.KeyUsage:  # noqa: FBT001
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
