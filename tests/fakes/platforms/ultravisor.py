"""An ultravisor of IBM Z, and the kernel's /dev/uv in front of it (Linux 6.12, uvdevice.c).

The driver's half checks lengths and reserved fields as the kernel does and answers with an errno;
everything else is the ultravisor's, which answers with return codes. Requests are taken apart here
by their offsets, and not with the project's own code.
"""

import ctypes
import datetime as dt
import errno
import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from functools import cache

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding

FD = 7
IOCTL_ATT = 0xC0407501
EXECUTED, INVALID, BAD_KEY = 0x0001, 0x0100, 0x0108
HEADER = {"pld": b"p" * 64, "ald": b"a" * 64, "tld": b"t" * 64, "tag": b"g" * 16}
ARCB_MAX, DATA_MAX = 0x100000, 0x8000


@cache
def machine_key(number: int) -> ec.EllipticCurvePrivateKey:
    del number
    return ec.generate_private_key(ec.SECP521R1())


def coordinates(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return numbers.x.to_bytes(80, "big") + numbers.y.to_bytes(80, "big")


def host_key_document(
    number: int = 0, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey | None = None
) -> x509.Certificate:
    """A machine's certificate; who signed it is the owner's business."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"machine {number}")])
    own = key or machine_key(number)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2045, 1, 1, tzinfo=dt.UTC))
        .sign(machine_key(number), SHA512())
    )


def host_key_pem(number: int = 0) -> bytes:
    return host_key_document(number).public_bytes(Encoding.PEM)


@dataclass(kw_only=True)
class Ultravisor:
    """One machine with one guest.

    Attributes:
        machine: whose key it has.
        unpacked_by: whose key the image was encrypted to.
        header: of the guest's image.
        config_uid: the guest's id.
        refusal: return codes for every request, if not None.
        errors: errno numbers, one for each call that the driver refuses.
        asked: user data of each measurement.
    """

    machine: int = 0
    unpacked_by: int = 0
    header: dict[str, bytes] = field(default_factory=lambda: dict(HEADER))
    config_uid: bytes = b"guest 4711 of se"
    refusal: tuple[int, int] | None = None
    errors: list[int] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    def ioctl(self, fd: int, number: int, argument: bytearray) -> int:
        """The driver's entry point."""
        assert (fd, number, len(argument)) == (FD, IOCTL_ATT, 64)
        if self.errors:
            raise OSError(self.errors.pop(0), "uvdevice")
        flags, _rc, _rrc, address, length = struct.unpack_from("=IHHQI", argument)
        if flags or any(argument[0x14:0x40]) or length != 0x138:
            raise OSError(errno.EINVAL, "uvio_ioctl_cb")
        raw = ctypes.string_at(address, length)
        arcb_at, meas_at, add_at = struct.unpack_from("=QQQ", raw)
        arcb_len, meas_len, add_len, user_len, reserved = struct.unpack_from("=IIIHH", raw, 0x128)
        if not 0 < arcb_len <= ARCB_MAX or not 0 < meas_len <= DATA_MAX or add_len > DATA_MAX:
            raise OSError(errno.EINVAL, "uvio_attest")
        if reserved:
            raise OSError(errno.EINVAL, "reserved136")
        user_data = raw[0x18 : 0x18 + user_len]
        codes, answer = self._attest(
            ctypes.string_at(arcb_at, arcb_len), user_data, meas_len, add_len
        )
        struct.pack_into("=HH", argument, 4, *codes)
        if answer is not None:
            measurement, additional = answer
            ctypes.memmove(meas_at, measurement, meas_len)
            ctypes.memmove(add_at, additional, add_len)
            ctypes.memmove(address + 0x118, self.config_uid, 16)
        return 0

    def _attest(
        self, arcb: bytes, user_data: bytes, meas_len: int, add_len: int
    ) -> tuple[tuple[int, int], tuple[bytes, bytes] | None]:
        if self.refusal is not None:
            return self.refusal, None
        if len(user_data) > 256 or meas_len != 64:
            return (INVALID, 1), None
        opened = self.open(arcb)
        if opened is None:
            return (BAD_KEY, 0), None
        key, nonce = opened
        additional = self.key_hash(self.unpacked_by) + self.key_hash(self.machine)
        if add_len != len(additional):
            return (INVALID, 2), None
        self.asked.append(user_data)
        return (EXECUTED, 0), (self.measure(key, nonce, user_data, additional), additional)

    def open(self, arcb: bytes) -> tuple[bytes, bytes] | None:
        """The key and nonce of a request to this machine."""
        version, size = struct.unpack_from(">II", arcb, 8)
        slots, secret_size = arcb[0x27], struct.unpack_from(">I", arcb, 0x2C)[0]
        flags, algorithm = struct.unpack_from(">QI", arcb, 0x30)
        assert (arcb[:8], version, size) == (bytes(8), 0x100, len(arcb))
        assert (flags, algorithm, secret_size) == (0x7000000000000000, 1, 80)
        assert not any(arcb[0x1C:0x27])
        assert not any(arcb[0x28:0x2C])
        assert not any(arcb[0x3C:0x40])
        x, y = (int.from_bytes(arcb[at : at + 80], "big") for at in (0x40, 0x90))
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP521R1()).public_key()
        shared = machine_key(self.machine).exchange(ec.ECDH(), public)
        wrapping = hashlib.sha256(shared + b"\0\0\0\1").digest()
        for index in range(slots):
            slot = arcb[0xE0 + 80 * index :][:80]
            if slot[:32] == self.key_hash(self.machine):
                end = len(arcb) - 96
                assert end == 0xE0 + 80 * slots
                try:
                    request_key = AESGCM(wrapping).decrypt(bytes(12), slot[32:], b"")
                    secret = AESGCM(request_key).decrypt(arcb[0x10:0x1C], arcb[end:], arcb[:end])
                except InvalidTag:
                    return None
                return secret[:64], secret[64:]
        return None

    def measure(self, key: bytes, nonce: bytes, user_data: bytes, additional: bytes) -> bytes:
        items = b"".join(self.header[name] for name in ("pld", "ald", "tld", "tag"))
        items += self.config_uid + len(user_data).to_bytes(2, "big") + bytes(2)
        items += len(additional).to_bytes(4, "big") + user_data + nonce + additional
        return hmac.new(key, items, hashlib.sha512).digest()

    @staticmethod
    def key_hash(machine: int) -> bytes:
        return hashlib.sha256(coordinates(machine_key(machine).public_key())).digest()
