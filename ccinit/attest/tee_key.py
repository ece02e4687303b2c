"""The guest's ephemeral key, to which the KBS encrypts released secrets.

Each handshake has a key of its own, of the kind that measured configuration names. It lives in the
process that speaks to the KBS and ends with it; it is never written, exported or reused.
`ccinit.attest.jwe` decrypts with it.
"""

from typing import Self, TypeAlias, assert_never

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import VerificationError
from ccinit.formats.kbs.jwk import (
    P256,
    P521,
    RSA_EXPONENT,
    Curve,
    EcPublicJwk,
    RsaPublicJwk,
    TeeKeyAlgorithm,
)
from ccinit.secret import Secret

_RSA_BITS = 2048  # as Trustee's own client; the key is used for minutes
_CURVES = {P256: ec.SECP256R1(), P521: ec.SECP521R1()}


def undecryptable() -> VerificationError:
    """Return the one error of every decryption step, so that nobody can tell which one failed."""
    return VerificationError("jwe.decrypt", "the reply does not decrypt")


class EcTeeKey:
    """A private key on P-256 or P-521."""

    __slots__ = ("_private", "public_jwk")

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        """Args: private: a key on one of the two curves."""
        numbers = private.public_key().public_numbers()
        curve = next(
            (ours for ours, its in _CURVES.items() if its.name == numbers.curve.name), None
        )
        if curve is None:
            raise TypeError("a TEE key is on P-256 or P-521")
        self._private = private
        self.public_jwk = EcPublicJwk(
            x=numbers.x.to_bytes(curve.coordinate_bytes, "big"),
            y=numbers.y.to_bytes(curve.coordinate_bytes, "big"),
            curve=curve,
        )

    @classmethod
    def generate(cls, curve: Curve = P256) -> Self:
        """Return a fresh key from the kernel's random numbers."""
        return cls(ec.generate_private_key(_CURVES[curve]))

    def agree(self, peer: EcPublicJwk) -> Secret:
        """Return the x-coordinate of the shared point, 32 or 66 bytes (SEC 1, section 3.3.1).

        The type of `peer` ensures that it is on its curve, and the curves have no small subgroups;
        a peer on the other curve is a bug of ours.
        """
        if peer.curve != self.public_jwk.curve:
            raise TypeError("the peer's key is on another curve")
        x, y = int.from_bytes(peer.x, "big"), int.from_bytes(peer.y, "big")
        public = ec.EllipticCurvePublicNumbers(x, y, _CURVES[peer.curve]).public_key()
        return Secret(self._private.exchange(ec.ECDH(), public))

    def __repr__(self) -> str:
        return f"EcTeeKey({self.public_jwk.curve.name})"


class RsaTeeKey:
    """A private RSA key for OAEP with SHA-256 and MGF1 with SHA-256 (RFC 7518 section 4.3)."""

    __slots__ = ("_private", "public_jwk")

    def __init__(self, private: rsa.RSAPrivateKey) -> None:
        """Args: private: a key with the exponent 65537, of 2048 to 4096 bits."""
        numbers = private.public_key().public_numbers()
        if numbers.e != RSA_EXPONENT:
            raise TypeError(f"a TEE key has the exponent {RSA_EXPONENT}")
        self._private = private
        self.public_jwk = RsaPublicJwk(
            modulus=numbers.n.to_bytes((private.key_size + 7) // 8, "big")
        )

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key from the kernel's random numbers."""
        return cls(rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=_RSA_BITS))

    def decrypt(self, ciphertext: bytes) -> Secret:
        """Return the plaintext of an RSA-OAEP-256 ciphertext.

        Raises:
            VerificationError: `jwe.decrypt`, for every cause.
        """
        padding = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=None)
        try:
            return Secret(self._private.decrypt(ciphertext, padding))
        except ValueError:
            raise undecryptable() from None

    def __repr__(self) -> str:
        return f"RsaTeeKey({self._private.key_size})"


TeeKey: TypeAlias = EcTeeKey | RsaTeeKey


def generate_tee_key(algorithm: TeeKeyAlgorithm) -> TeeKey:
    """Return a fresh key of the given kind."""
    match algorithm:
        case TeeKeyAlgorithm.P256:
            return EcTeeKey.generate(P256)
        case TeeKeyAlgorithm.P521:
            return EcTeeKey.generate(P521)
        case TeeKeyAlgorithm.RSA_OAEP_256:
            return RsaTeeKey.generate()
    assert_never(algorithm)
