"""Records of a TLS 1.3 server that OpenSSL would not send: many tickets, updates of its key.

After a handshake by OpenSSL, which writes the traffic secrets to a key log, this goes on in its
place (RFC 8446, sections 4.6, 5 and 7). What is sent through it, OpenSSL must not send as well: the
records are numbered.
"""

import hashlib
import hmac
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

ALERT, HANDSHAKE, DATA = 21, 22, 23
# type 4: lifetime, age_add, nonce, ticket, no extensions
TICKET = b"\x04\x00\x00\x0f" + b"\0\0\0\1" + b"\0\0\0\2" + b"\1n" + b"\0\1t" + b"\0\0"
HELLO_REQUEST = bytes(4)
"""Of TLS 1.2, section 7.4.1.1: a client in a handshake ignores it."""
_CIPHERS: dict[str, tuple[type[AESGCM | ChaCha20Poly1305], int, str]] = {
    "TLS_AES_256_GCM_SHA384": (AESGCM, 32, "sha384"),
    "TLS_AES_128_GCM_SHA256": (AESGCM, 16, "sha256"),
    "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, 32, "sha256"),
}


def plain_record(content: bytes) -> bytes:
    """A record of a handshake's first messages."""
    return b"\x16\x03\x03" + len(content).to_bytes(2, "big") + content


class RecordWriter:
    """Writes what a server sends after its Finished."""

    def __init__(self, key_log: Path, connection: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Args: key_log: of the server's context, and of no other connection."""
        cipher = connection.cipher()
        assert cipher is not None
        self._aead, self._key_bytes, self._hash = _CIPHERS[cipher[0]]
        lines = (line.split() for line in key_log.read_text().splitlines())
        secrets = {line[0]: line[-1] for line in lines if line}
        self._use(bytes.fromhex(secrets["SERVER_TRAFFIC_SECRET_0"]))

    def record(self, kind: int, content: bytes) -> bytes:
        """Return one encrypted record."""
        inner = content + bytes([kind])
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, inner, head)

    def key_update(self, *, asks: bool) -> bytes:
        """Return a KeyUpdate, which may ask for one in return; what follows has the next key."""
        sent = self.record(HANDSHAKE, b"\x18\0\0\1" + bytes([asks]))
        self._use(self._expand(b"traffic upd", len(self._secret)))
        return sent

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = self._aead(self._expand(b"key", self._key_bytes))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label without a context; one block is enough for all of these."""
        assert length <= hashlib.new(self._hash).digest_size
        name = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
        return hmac.new(self._secret, info + b"\1", self._hash).digest()[:length]
