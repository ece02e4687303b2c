"""The guest's TLS identity: what a KBS resource of kind `tls-identity` holds.

PEM text (RFC 7468): exactly one PKCS#8 `PRIVATE KEY`, then one to eight `CERTIFICATE`s, the
guest's own first, each signed by the next. The owner's tools expect the guest's own certificate to
have the pod's name as its only DNS name (RFC 5280, section 4.2.1.6), and `serverAuth` as its usage;
they trust the root that they are given, which need not be in the chain. The resource is
`kbs:///ccinit/<pod>/tls-identity`, minted for each session or stored.

This module splits the text into blocks and decodes base64. What the certificates say is verified by
TLS, in the child that fetches them (`ccinit.net.tls_identity`). From that child PID 1 also gets the
bytes of the guest's own certificate, which the call `attest` binds to its evidence; it parses
nothing of the text itself.
"""

import binascii

from ccinit.errors import FormatError, LimitExceededError
from ccinit.values import frozen

MAX_BYTES = 32 * 1024
MAX_CERTIFICATES = 8
FIRST_DATE = -62_167_219_200  # the year 0: GeneralizedTime has four digits
LAST_DATE = 253_402_300_799  # the end of the year 9999

_BEGIN, _END, _DASHES = "-----BEGIN ", "-----END ", "-----"
_KEY, _CERTIFICATE = "PRIVATE KEY", "CERTIFICATE"


@frozen
class TlsIdentity:
    """The public part of an identity: the private key stays in the text that was parsed.

    Attributes:
        chain_der: the certificates, the guest's own first.
    """

    chain_der: tuple[bytes, ...]

    @property
    def certificate_der(self) -> bytes:
        """The guest's own certificate."""
        return self.chain_der[0]

    @property
    def top_der(self) -> bytes:
        """The last certificate of the chain, which may be the guest's own."""
        return self.chain_der[-1]


@frozen
class ExpectedIdentity:
    """What a pod's identity is verified against.

    Attributes:
        pod: the name that its certificate must have.
        roots_pem: certificates that it may lead to.
        top_der: one more, DER: the last certificate of the identity that it replaces; unless that
            is a root, the chain must contain it. Empty for the first identity of a boot, which may
            lead to the last certificate of its own chain instead.
    """

    pod: str
    roots_pem: str
    top_der: bytes = b""


@frozen
class VerifiedIdentity:
    """What is known of an identity that was verified.

    Attributes:
        top_der: the last certificate of its chain.
        not_before, not_after: of the guest's own certificate, in seconds since 1970.

    Raises:
        FormatError: `tls_identity.form`, dates that no certificate has.
    """

    top_der: bytes
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        if not all(FIRST_DATE <= one <= LAST_DATE for one in (self.not_before, self.not_after)):
            raise FormatError("tls_identity.form", "dates that no certificate has")


def parse_tls_identity(data: bytes) -> TlsIdentity:
    """Parse a resource's data.

    Raises:
        LimitExceededError: `tls_identity.size`.
        FormatError: `tls_identity.form`.
    """
    if len(data) > MAX_BYTES:
        raise LimitExceededError(
            "tls_identity.size", f"expected at most {MAX_BYTES} bytes, found {len(data)}"
        )
    blocks = _blocks(data)
    labels = [label for label, _ in blocks]
    if labels[:1] != [_KEY] or set(labels[1:]) != {_CERTIFICATE}:
        raise FormatError("tls_identity.form", "expected one private key, then certificates")
    if len(labels) > 1 + MAX_CERTIFICATES:
        raise LimitExceededError("tls_identity.form", f"more than {MAX_CERTIFICATES} certificates")
    return TlsIdentity(chain_der=tuple(content for _, content in blocks[1:]))


def _blocks(data: bytes) -> list[tuple[str, bytes]]:
    """Return label and content of every PEM block; no text may be between them."""
    blocks: list[tuple[str, bytes]] = []
    label, body = "", ""
    try:
        # OpenSSL, which reads this text next, ends lines as these two do and no others.
        lines = data.decode("ascii").replace("\r\n", "\n").removesuffix("\n").split("\n")
        for line in lines:
            if not label:
                label, body = _begun_by(line), ""
            elif line == f"{_END}{label}{_DASHES}":
                blocks.append((label, binascii.a2b_base64(body, strict_mode=True)))
                label = ""
            else:
                body += line
    except (UnicodeDecodeError, binascii.Error):
        # Without a cause: a UnicodeDecodeError holds the whole text, key included.
        raise FormatError("tls_identity.form", "not PEM") from None
    if label:
        raise FormatError("tls_identity.form", "a block without end")
    return blocks


def _begun_by(line: str) -> str:
    """Return the label of the block that begins with `line`."""
    label = line[len(_BEGIN) : -len(_DASHES)]
    if not label or line != f"{_BEGIN}{label}{_DASHES}":
        raise FormatError("tls_identity.form", "text outside of PEM blocks")
    return label
