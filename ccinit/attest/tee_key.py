"""The guest's ephemeral key: what the owner encrypts a released secret to.

One P-256 key for one handshake. It lives in the process that speaks with the KBS and ends with it;
it is never written, exported or used again. What it decrypts is `ccinit.attest.jwe`.
"""

from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.formats.jwk import COORDINATE_BYTES, EcPublicJwk
from ccinit.secret import Secret


class TeeKey:
    """A private key on P-256."""

    __slots__ = ("_private", "public_jwk")

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        """Args: private: a key on P-256."""
        numbers = private.public_key().public_numbers()
        if not isinstance(numbers.curve, ec.SECP256R1):
            raise TypeError("a TEE key is on P-256")
        self._private = private
        self.public_jwk = EcPublicJwk(
            x=numbers.x.to_bytes(COORDINATE_BYTES, "big"),
            y=numbers.y.to_bytes(COORDINATE_BYTES, "big"),
        )

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key from the kernel's random numbers."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def agree(self, peer: EcPublicJwk) -> Secret:
        """Return the x-coordinate of the shared point, 32 bytes (SEC 1, section 3.3.1).

        `peer` is on the curve, which its type has checked; P-256 has no small subgroups.
        """
        x, y = int.from_bytes(peer.x, "big"), int.from_bytes(peer.y, "big")
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        return Secret(self._private.exchange(ec.ECDH(), public))

    def __repr__(self) -> str:
        return "TeeKey(P-256)"
