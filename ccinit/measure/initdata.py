"""Binding the initdata document to a register, once in the life of a boot.

On a TPM the document's digest is *extended* (on SNP and TDX it was set by the host at launch, and
is compared). A verifier expects exactly one extend from zero, so a register that was touched
before makes the boot worthless, and a register that does not read back as expected is not a
register. Reading and hashing the document is left to `ccinit.formats.initdata`.
"""

import hashlib

from ccinit.errors import VerificationError
from ccinit.measure.register import MeasurementRegister

_ZERO = bytes(32)


def bind_initdata(register: MeasurementRegister, digest: bytes) -> bytes:
    """Extend `register` with the document's SHA-256 and return its new value, 32 bytes.

    The steps, all of them MUST:

     1. the digest is a SHA-256 [`config.digest`];
     2. the register is zero: nothing was extended in this boot [`config.register_used`];
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
    expected = hashlib.sha256(_ZERO + digest).digest()
    if register.read() != expected:
        raise VerificationError("config.mismatch", "the register does not hold the initdata digest")
    return expected
