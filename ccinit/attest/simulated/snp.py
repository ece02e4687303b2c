"""Simulated SEV-SNP; the launch field is HOSTDATA.

Reports have the real format and a valid signature, by a key that anybody can read below. They prove
nothing: their measurement is of no image, and the chain is of no vendor (tests/vectors/snp_sim).
"""

import base64
import hashlib
import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from ccinit.formats.evidence.snp_report import (
    ECDSA_P384_SHA384,
    SIGNATURE_PART_BYTES,
    FirmwareVersion,
    PlatformBit,
    PolicyBit,
    SnpReport,
    TcbVersion,
)
from ccinit.kernel.tsm import SEV_GUEST
from ccinit.values import replace

MEASUREMENT = hashlib.sha384(b"ccinit simulated launch").digest()
CHIP_ID = hashlib.sha512(b"ccinit simulated processor").digest()
_TCB = TcbVersion(fmc=None, bootloader=4, tee=0, snp=24, microcode=219)
_FIRMWARE = FirmwareVersion(major=1, minor=55, build=21)
_NO_AGENT = b"\xff" * 32
_ENTRY = struct.Struct("<16sII")  # of the certificate table: GUID, offset, length
_VCEK = bytes.fromhex("63da758d e664 4564 adc5 f4b93be8accd")
# Nobody's: see above.
_KEY = int(
    "65b4dd014b21056c44d8394e6a0e62bb7abf686745c41f1c"
    "dd74005b91f14c63207ad00b9bf83b052fae88a584d11ebd",
    16,
)
_CERTIFICATE = (
    "MIIEVzCCAgugAwIBAgIBADBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFlAwQCAgUAoRwwGgYJKoZIhvcNAQEIMA0GCWCGSAFl"
    "AwQCAgUAogMCATAwNTEfMB0GA1UECgwWQWR2YW5jZWQgTWljcm8gRGV2aWNlczESMBAGA1UEAwwJU0VWLU1pbGFuMB4XDTIw"
    "MDEwMTAwMDAwMFoXDTQ1MDEwMTAwMDAwMFowNDEfMB0GA1UECgwWQWR2YW5jZWQgTWljcm8gRGV2aWNlczERMA8GA1UEAwwI"
    "U0VWLVZDRUswdjAQBgcqhkjOPQIBBgUrgQQAIgNiAAQDOuOhPQ3We8TOnngtK1mKx2otYzw81MIeN8Wxz3wMe2ZZ/qxVEyYZ"
    "ooooQ1R5/6hnd5BdS20bCUeLpzMxXOmFXqPXkGdT8ZBb85fYvCCP/fFzUCAvc3kEGpydClgmG2mjgbgwgbUwFwYJKwYBBAGc"
    "eAECBAoWCE1pbGFuLUIwMBEGCisGAQQBnHgBAwEEAwIBBDARBgorBgEEAZx4AQMCBAMCAQAwEQYKKwYBBAGceAEDAwQDAgEY"
    "MBIGCisGAQQBnHgBAwgEBAICANswTQYJKwYBBAGceAEEBEDVQB8l/L2Vg66hX7I63xPk2MNAGFssCdupcjc/JPNZkMf0IJua"
    "wIqDeuj1vGo7Uz+CT5+sx9gQIGuhppyVtfEDMEEGCSqGSIb3DQEBCjA0oA8wDQYJYIZIAWUDBAICBQChHDAaBgkqhkiG9w0B"
    "AQgwDQYJYIZIAWUDBAICBQCiAwIBMAOCAgEAO0vrXpVnbKUpnfdoqw3fOgDDW1fShBi66/IRLyHtrbWmNqeG44YQAWQ8vJpJ"
    "ohYnkF6L0cHro/fnO2gk9MIdqP2y9pUqs+mD7PhfUs2ZFbkJ4N5nyrfa3GrLgAUB/5l4KgXaDjCcK+s+zdhsvpVKi4opyfjN"
    "J2C4yhZ2J4LljMJ1sfP9ySotBo9DGbSj8eb1tp3RZqQ2D4i3KnqLOP7pjmB/HM7/mkyxn2eOKEE3mjPXQFpj1PQbVx4Iqk2e"
    "7Zv1umTuGOi+V1OrcfeXzn97EAga7UqdOpYnV5exbSOohIOhmU0Au5Qgt/hrSpgNDF/c4q33hnr6JvHiFY62wrsYw9M8Qcya"
    "wj8tbv0UI9wN5ctEyoRwpGDSB7h4HTuVqN6Qpob8CNn6ewpQS0lfBjmXKLGaO/+BEuM2sJ+SuVdTSDv/0pO3yZuVt/cYX0QL"
    "Dvx6yrMoF5tPSgLyKOiVpqXG8E0i0DcitF8UkG6Rjsibjnw38nKQEQR3SGRdjw2T9nH3q9t4k9LZ+lSl9ZYSD8PWeH4UMZxk"
    "pYmwwceGURg/ANKjg/1IDVY0w8jnInTEpvybrZ354zRxjGlag84yBmxpPJgjmw2kMHRJhX0UUJ+b2qy8o1Jrz3B6cnUHV3hN"
    "xyNV971Q4RwUqJThcAMJmsFqCGBkT7ZKw8nYAptKicq6MQk="
)


def make_files(host_data: bytes, report_data: bytes) -> Mapping[str, bytes]:
    """Return an entry's attributes by name, as configfs-tsm has them."""
    return {
        "provider": SEV_GUEST.encode() + b"\n",
        "generation": b"2\n",
        "generation_after": b"2\n",
        "outblob": make_report(host_data, report_data),
        "auxblob": make_certificate_table(),
    }


def make_report(host_data: bytes, report_data: bytes) -> bytes:
    """Return a signed report over 64 bytes of report data."""
    unsigned = SnpReport(
        version=3,
        guest_svn=0,
        policy=int(PolicyBit.MUST_BE_ONE | PolicyBit.SMT),
        family_id=bytes(16),
        image_id=bytes(16),
        vmpl=0,
        sig_algo=ECDSA_P384_SHA384,
        current_tcb=_TCB,
        plat_info=int(PlatformBit.SMT | PlatformBit.ECC),
        key_info=0,
        report_data=report_data,
        measurement=MEASUREMENT,
        host_data=host_data,
        id_key_digest=bytes(48),
        author_key_digest=bytes(48),
        report_id=hashlib.sha256(host_data).digest(),
        report_id_ma=_NO_AGENT,
        reported_tcb=_TCB,
        cpuid_fam_id=0x19,
        cpuid_mod_id=0x01,
        cpuid_step=0x01,
        chip_id=CHIP_ID,
        committed_tcb=_TCB,
        current=_FIRMWARE,
        committed=_FIRMWARE,
        launch_tcb=_TCB,
        launch_mit_vector=None,
        current_mit_vector=None,
        signature_r=bytes(SIGNATURE_PART_BYTES),
        signature_s=bytes(SIGNATURE_PART_BYTES),
    )
    key = ec.derive_private_key(_KEY, ec.SECP384R1())
    r, s = decode_dss_signature(key.sign(unsigned.signed_bytes, ec.ECDSA(SHA384())))
    return replace(
        unsigned,
        signature_r=r.to_bytes(SIGNATURE_PART_BYTES, "little"),
        signature_s=s.to_bytes(SIGNATURE_PART_BYTES, "little"),
    ).to_bytes()


def make_certificate_table() -> bytes:
    """Return the table of a host that has the key's certificate."""
    data = base64.b64decode(_CERTIFICATE)
    return _ENTRY.pack(_VCEK, 2 * _ENTRY.size, len(data)) + bytes(_ENTRY.size) + data
