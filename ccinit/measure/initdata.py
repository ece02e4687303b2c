"""Binding the initdata document to the platform, once per boot.

On a TPM the guest *extends* the document's digest. A verifier expects exactly one extend from zero,
so if the register was used before, the boot is worthless, and the register has to read back as
expected. On SNP, TDX and CCA the host sets a field at launch, and the digest is *compared* with it;
a field of zeros was never set. `ccinit.formats.initdata.document` reads and hashes the document;
`ccinit.formats.evidence.tee` says which platform does what.
"""

import hashlib

from ccinit.errors import VerificationError
from ccinit.measure.register import MeasurementRegister

_ZERO = bytes(32)


def bind_initdata(register: MeasurementRegister, digest: bytes) -> None:
    """Extend `register` with the document's SHA-256.

    The steps, all of them MUST:

     1. the digest is a SHA-256 [`config.digest`];
     2. the register is zero: nothing was extended into it in this boot [`config.register_used`];
     3. it is extended once;
     4. it reads back as SHA-256(zero || digest) [`config.mismatch`].

    Raises:
        VerificationError: as named above.
    """
    if len(digest) != len(_ZERO):
        raise VerificationError("config.digest", f"{len(digest)} bytes, a SHA-256 has 32")
    if register.read() != _ZERO:
        raise VerificationError("config.register_used", "the initdata register is not zero")
    register.extend(digest)
    if register.read() != hashlib.sha256(_ZERO + digest).digest():
        raise VerificationError("config.mismatch", "the register does not hold the initdata digest")


def compare_initdata(field: bytes, digest: bytes, size_bytes: int) -> None:
    """Compare the field that the host set at launch with the document's digest.

    The steps, all of them MUST:

     1. the field has the platform's size, and the digest fits it [`config.digest`];
     2. the field is not all zero: the host bound something [`config.unbound`];
     3. it is the digest, whole, padded with zeros [`config.mismatch`].

    Raises:
        VerificationError: as named above.
    """
    if len(field) != size_bytes or not len(_ZERO) <= len(digest) <= size_bytes:
        raise VerificationError(
            "config.digest", f"a digest of {len(digest)} bytes, a field of {len(field)}"
        )
    if field == bytes(size_bytes):
        raise VerificationError("config.unbound", "the host bound no initdata at launch")
    if field != digest.ljust(size_bytes, b"\0"):
        raise VerificationError("config.mismatch", "the host bound another initdata at launch")
