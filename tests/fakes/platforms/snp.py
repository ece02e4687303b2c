"""AMD's part in a few lines: a chain of keys, and reports that the last of them signs.

The report is laid out here a second time, by the offsets of AMD 56860 table 23, and not with the
project's own encoder; certificates are as in AMD 57230, their serial number zero included.
"""

import datetime as dt
import hashlib
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.snp import Certificate, CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import parse_snp_report

OIDS = "1.3.6.1.4.1.3704.1"
START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2045, 1, 1, tzinfo=dt.UTC)
PADDING = PSS(mgf=MGF1(SHA384()), salt_length=48)
CHIP_ID = hashlib.sha512(b"chip").digest()

# Offset and length of each field.
FIELDS = {
    "version": (0x000, 4),
    "guest_svn": (0x004, 4),
    "policy": (0x008, 8),
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "vmpl": (0x030, 4),
    "sig_algo": (0x034, 4),
    "current_tcb": (0x038, 8),
    "plat_info": (0x040, 8),
    "key_info": (0x048, 4),
    "reserved": (0x04C, 4),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "reported_tcb": (0x180, 8),
    "cpuid_fam_id": (0x188, 1),
    "cpuid_mod_id": (0x189, 1),
    "cpuid_step": (0x18A, 1),
    "chip_id": (0x1A0, 64),
    "committed_tcb": (0x1E0, 8),
    "current": (0x1E8, 3),
    "committed": (0x1EC, 3),
    "launch_tcb": (0x1F0, 8),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}


def tcb(bootloader: int, tee: int, snp: int, microcode: int) -> bytes:
    """A TCB version as on Milan and Genoa."""
    return bytes((bootloader, tee, 0, 0, 0, 0, snp, microcode))


def turin_tcb(fmc: int, bootloader: int, tee: int, snp: int, microcode: int) -> bytes:
    return bytes((fmc, bootloader, tee, snp, 0, 0, 0, microcode))


TCB = tcb(4, 0, 24, 219)


@cache
def rsa_key(number: int, bits: int = 4096) -> rsa.RSAPrivateKey:
    """One key for each number and size; making them is the slow part of these tests."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(number: int, curve: type[ec.EllipticCurve] = ec.SECP384R1) -> ec.EllipticCurvePrivateKey:
    del number
    return ec.generate_private_key(curve())


def der(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


@dataclass(kw_only=True)
class Chain:
    """ARK, ASK and an endorsement key; each attribute may be another one than it should."""

    number: int = 0
    product: str = "Milan-B0"
    hwid: bytes = CHIP_ID
    reported: bytes = TCB
    leaf_name: str = "SEV-VCEK"
    csp_id: str = "CN=cc-north-1.cloud.example"
    fmc: int | None = None
    bits: int = 4096
    padding: PSS = field(default_factory=lambda: PADDING)
    digest: SHA256 | SHA384 = field(default_factory=SHA384)
    extensions: dict[str, bytes] = field(default_factory=dict)
    curve: type[ec.EllipticCurve] = ec.SECP384R1

    @property
    def ark(self) -> x509.Certificate:
        key = rsa_key(2 * self.number, self.bits)
        return self._sign("ARK-Milan", "ARK-Milan", key.public_key(), key, {})

    @property
    def ask(self) -> x509.Certificate:
        public = rsa_key(2 * self.number + 1, self.bits).public_key()
        return self._sign("SEV-Milan", "ARK-Milan", public, rsa_key(2 * self.number, self.bits), {})

    @property
    def leaf_key(self) -> ec.EllipticCurvePrivateKey:
        return ec_key(self.number, self.curve)

    @property
    def leaf(self) -> x509.Certificate:
        levels = (
            self.reported[0:2] + self.reported[6:8]
            if self.fmc is None
            else self.reported[1:4] + self.reported[7:8]
        )
        extensions = {f"{OIDS}.2": der(0x16, self.product.encode())}
        for last, level in zip((1, 2, 3, 8), levels, strict=True):
            number = level.to_bytes(level.bit_length() // 8 + 1, "big")
            extensions[f"{OIDS}.3.{last}"] = der(0x02, number)
        if self.fmc is not None:
            extensions[f"{OIDS}.3.9"] = der(0x02, bytes((self.fmc,)))
        if self.leaf_name == "SEV-VCEK":
            extensions[f"{OIDS}.4"] = self.hwid
        else:
            extensions[f"{OIDS}.5"] = der(0x16, self.csp_id.encode())
        return self._sign(
            self.leaf_name,
            "SEV-Milan",
            self.leaf_key.public_key(),
            rsa_key(2 * self.number + 1, self.bits),
            extensions | self.extensions,
        )

    @property
    def pem(self) -> bytes:
        """What an owner registers: ASK and ARK, as AMD's service gives them."""
        return b"".join(known.public_bytes(Encoding.PEM) for known in (self.ask, self.ark))

    @property
    def trusted(self) -> tuple[bytes, ...]:
        return tuple(known.public_bytes(Encoding.DER) for known in (self.ask, self.ark))

    def table(self) -> bytes:
        """The certificate table of a host that has the endorsement key's certificate."""
        guid = VCEK if self.leaf_name == "SEV-VCEK" else VLEK
        return certificate_table({guid: der_of(self.leaf)})

    def whole_table(self) -> bytes:
        """Likewise of a host that has AMD's certificates, too."""
        known = {VCEK: self.leaf, ASK: self.ask, ARK: self.ark}
        return certificate_table({guid: der_of(one) for guid, one in known.items()})

    def _sign(
        self,
        subject: str,
        issuer: str,
        public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        key: rsa.RSAPrivateKey,
        extensions: dict[str, bytes],
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(public)
            .serial_number(1)
            .not_valid_before(START)
            .not_valid_after(END)
        )
        for oid, value in extensions.items():
            known = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            builder = builder.add_extension(known, critical=False)
        signed = builder.sign(key, self.digest, rsa_padding=self.padding)
        return _with_serial_zero(signed, key, self.padding, self.digest)


VCEK = bytes.fromhex("63da758de6644564adc5f4b93be8accd")
VLEK = bytes.fromhex("a8074bc2a25a483eaae639c045a0b8a1")
ASK = bytes.fromhex("4ab7b379bbac4fe4a02f05aef327c782")
ARK = bytes.fromhex("c0b406a4a803495297433fb6014cd0ae")


def certificate_table(entries: dict[bytes, bytes]) -> bytes:
    """GHCB specification, section 4.1.8.1."""
    offset = 24 * (len(entries) + 1)
    head, data = b"", b""
    for guid, content in entries.items():
        head += guid + (offset + len(data)).to_bytes(4, "little")
        head += len(content).to_bytes(4, "little")
        data += content
    return head + bytes(24) + data


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Advanced Micro Devices"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
        ]
    )


def _with_serial_zero(
    certificate: x509.Certificate, key: rsa.RSAPrivateKey, padding: PSS, digest: SHA256 | SHA384
) -> x509.Certificate:
    """Sign again with the serial number zero, which the library makes for nobody."""
    body = certificate.tbs_certificate_bytes
    version = b"\xa0\x03\x02\x01\x02"
    changed = body.replace(version + b"\x02\x01\x01", version + b"\x02\x01\x00", 1)
    assert changed != body
    whole = der_of(certificate)
    new = whole.replace(body, changed).replace(
        certificate.signature, key.sign(changed, padding, digest)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(new)


@dataclass(kw_only=True)
class FakeSnp:
    """A secure processor with a guest: fields that a test may set, and a chain that signs."""

    chain: Chain = field(default_factory=Chain)
    fields: dict[str, bytes | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults: dict[str, bytes | int] = {
            "version": 5,
            "policy": 0x30000,
            "sig_algo": 1,
            "current_tcb": TCB,
            "plat_info": 0b100101,
            "measurement": hashlib.sha384(b"image-1").digest(),
            "report_id": hashlib.sha256(b"instance").digest(),
            "report_id_ma": b"\xff" * 32,
            "reported_tcb": TCB,
            "cpuid_fam_id": 0x19,
            "cpuid_mod_id": 0x01,
            "cpuid_step": 1,
            "chip_id": CHIP_ID,
            "committed_tcb": TCB,
            "current": bytes((21, 55, 1)),
            "committed": bytes((21, 55, 1)),
            "launch_tcb": TCB,
            "launch_mit_vector": 0b11,
            "current_mit_vector": 0b111,
        }
        self.fields = defaults | self.fields

    def with_fields(self, **changes: bytes | int) -> "FakeSnp":
        return replace(self, fields=self.fields | changes)

    def report(self, report_data: bytes, vmpl: int = 0) -> bytes:
        """A signed report; a test's own `report_data` or `vmpl` wins."""
        data = bytearray(1184)
        given: dict[str, bytes | int] = {"report_data": report_data, "vmpl": vmpl}
        for known, value in (given | self.fields).items():
            offset, size = FIELDS[known]
            content = value.to_bytes(size, "little") if isinstance(value, int) else value
            assert len(content) == size, known
            data[offset : offset + size] = content
        signature = self.chain.leaf_key.sign(bytes(data[:672]), ec.ECDSA(SHA384()))
        r, s = decode_dss_signature(signature)
        data[672:744] = r.to_bytes(72, "little")
        data[744:816] = s.to_bytes(72, "little")
        return bytes(data)

    def evidence(self, report_data: bytes) -> JsonValue:
        kind = CertType.VCEK if self.chain.leaf_name == "SEV-VCEK" else CertType.VLEK
        return SnpEvidence(
            report=parse_snp_report(self.report(report_data)),
            certificates=(Certificate(cert_type=kind, data=der_of(self.chain.leaf)),),
        ).to_json_value()


WEAK: dict[str, Any] = {"padding": PSS(mgf=MGF1(SHA256()), salt_length=32), "digest": SHA256()}
