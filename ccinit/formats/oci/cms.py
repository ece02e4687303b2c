"""CMS EnvelopedData with AES-GCM and RSA recipients, as ocicrypt's `pkcs7` wrap writes it.

RFC 5652 section 6 in DER, with AES-GCM as content cipher (parameters as in RFC 5084; that this is
in EnvelopedData, with the tag behind the ciphertext, is the writer's choice). A recipient's issuer
and serial number are not read: the caller tries the one key it has. Decrypting is left to
`pull.encryption`.
"""

from typing import Final

from ccinit.errors import FormatError, LimitExceededError
from ccinit.values import frozen

MAX_RECIPIENTS: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

_INTEGER, _OCTETS, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_CONTEXT_0 = 0xA0  # [0], constructed
_CONTEXT_0_PLAIN = 0x80  # [0], an implicit OCTET STRING
_CONTEXT_4_PLAIN = 0x84
_SEQUENCE_PLAIN = 0x10
_ENVELOPED_DATA = bytes.fromhex("2a864886f70d010703")
_DATA = bytes.fromhex("2a864886f70d010701")
_RSA = bytes.fromhex("2a864886f70d010101")
_NULL = bytes.fromhex("0500")
_AES_GCM = {  # OID: bytes of the key
    bytes.fromhex("608648016503040106"): 16,
    bytes.fromhex("60864801650304012e"): 32,
}


@frozen
class EnvelopedData:
    """A parsed message.

    Attributes:
        encrypted_keys: the content key under each recipient's RSA key (PKCS #1 v1.5).
        key_bytes: length of the content key, 16 or 32.
        ciphertext: with the tag behind it.
    """

    encrypted_keys: tuple[bytes, ...]
    key_bytes: int
    nonce: bytes
    ciphertext: bytes


def parse_enveloped_data(data: bytes) -> EnvelopedData:
    """Read a ContentInfo with EnvelopedData.

    Raises:
        FormatError: `enc.cms`, malformed or not of this form.
    """
    outer = _Der(data).last(_SEQUENCE)
    outer.expect(_OID, _ENVELOPED_DATA)
    enveloped = outer.last(_CONTEXT_0).last(_SEQUENCE)
    enveloped.expect(_INTEGER, b"\0")
    recipients = enveloped.next(_SET)
    keys: list[bytes] = []
    while recipients.rest:
        keys.append(_encrypted_key(recipients.next(_SEQUENCE)))
        if len(keys) > MAX_RECIPIENTS:
            raise LimitExceededError("enc.cms.recipients", f"more than {MAX_RECIPIENTS}")
    content = enveloped.last(_SEQUENCE)
    content.expect(_OID, _DATA)
    key_bytes, nonce = _cipher(content.next(_SEQUENCE))
    return EnvelopedData(
        encrypted_keys=tuple(keys), key_bytes=key_bytes, nonce=nonce, ciphertext=_content(content)
    )


def _encrypted_key(recipient: "_Der") -> bytes:
    """Return the encrypted key of a KeyTransRecipientInfo, section 6.2.1."""
    recipient.expect(_INTEGER, b"\0")
    recipient.next(_SEQUENCE)  # issuer and serial number
    algorithm = recipient.next(_SEQUENCE)
    algorithm.expect(_OID, _RSA)
    if algorithm.rest not in (b"", _NULL):
        raise FormatError("enc.cms", "parameters of rsaEncryption")
    return recipient.last(_OCTETS).rest


def _cipher(algorithm: "_Der") -> tuple[int, bytes]:
    """Read GCMParameters, RFC 5084 section 3.2, with the tag's length, whose default would be 12.

    The writer in Go puts them into a SEQUENCE tagged as primitive, and the nonce into a [4].
    """
    key_bytes = _AES_GCM.get(algorithm.next(_OID).rest)
    if key_bytes is None:
        raise FormatError("enc.cms.cipher", "only AES in GCM is accepted")
    is_go = algorithm.rest[:1] == bytes((_SEQUENCE_PLAIN,))
    parameters = (algorithm.last(_SEQUENCE_PLAIN) if is_go else algorithm).last(_SEQUENCE)
    nonce = parameters.next(_CONTEXT_4_PLAIN if is_go else _OCTETS).rest
    if len(nonce) != NONCE_BYTES or parameters.last(_INTEGER).rest != bytes((TAG_BYTES,)):
        raise FormatError("enc.cms.cipher", "expected a nonce of 12 bytes and a tag of 16")
    return key_bytes, nonce


def _content(info: "_Der") -> bytes:
    """Read [0] IMPLICIT OCTET STRING; the writer makes it constructed, of one piece."""
    if info.rest[:1] == bytes((_CONTEXT_0_PLAIN,)):
        return info.last(_CONTEXT_0_PLAIN).rest
    return info.last(_CONTEXT_0).last(_OCTETS).rest


class _Der:
    """What is left to read of one value; lengths are definite and minimal."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def next(self, tag: int) -> "_Der":
        """Take the next value, which has to be of `tag`."""
        if len(self.rest) < 2 or self.rest[0] != tag:
            raise FormatError("enc.cms", f"expected a value of tag {tag:02x}")
        length, start = self.rest[1], 2
        if length & 0x80:
            count = length & 0x7F
            start = 2 + count
            octets = self.rest[2:start]
            length = int.from_bytes(octets, "big")
            if not 1 <= count <= 2 or len(octets) != count or length < 0x80 or octets[0] == 0:
                raise FormatError("enc.cms", "a length that is not DER")
        value, self.rest = self.rest[start : start + length], self.rest[start + length :]
        if len(value) != length:
            raise FormatError("enc.cms", "a value is cut short")
        return _Der(value)

    def last(self, tag: int) -> "_Der":
        """Take the next value, which has to be the last or only one."""
        value = self.next(tag)
        if self.rest:
            raise FormatError("enc.cms", "unexpected values at the end")
        return value

    def expect(self, tag: int, value: bytes) -> None:
        """Take the next value, which has to be `value`."""
        if self.next(tag).rest != value:
            raise FormatError("enc.cms", f"another value of tag {tag:02x} than this form has")
