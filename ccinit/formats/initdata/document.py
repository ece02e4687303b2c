"""The measured initdata document and the block-device image that carries it.

Document: Confidential Containers initdata (TOML: `version`, `algorithm`, `[data]` of strings).
Image: the 8 bytes `initdata`, the length of the gzip member as u64 little-endian, that member, zero
padding to whole sectors. The length comes from the host, so it is checked against the cap before
anything is allocated. The digest is over the document's exact bytes; nothing here re-serialises
them.

Reading the device and comparing the digest with a register are left to `boot` and `measure`. PID 1
shares constants of this module and parses no TOML.
"""

import hashlib
import zlib
from functools import partial

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.values import frozen

MAGIC = b"initdata"
HEADER_BYTES = 16
MAX_COMPRESSED_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 1 << 20
MAX_QUOTED_BYTES = 3 << 19
"""Of a document as a text in JSON, which is how a KBS gets it, in a message of at most 2 MiB.

The rest is for evidence, of which a log or a chain of certificates takes the most.
"""
DISK_ALIGNMENT_BYTES = 4096
"""Of an image: the end of a disk is read only in whole sectors, and no disk has larger ones."""

_VERSION = "0.1.0"
_AGENT_POLICY = "policy.rego"
_ALGORITHMS = frozenset({"sha256", "sha384"})
_ESCAPED = tuple(b'"\\\n\r\t')  # in JSON they are two bytes each; TOML has no other such letter
_GZIP_WBITS = 16 + zlib.MAX_WBITS


@frozen
class Initdata:
    """A parsed document.

    Attributes:
        algorithm: how the platform's register holds the digest: `sha256` or `sha384`.
        config_toml: text of `ccinit.toml`.
        pod_toml: text of `pod.toml`.
        aa_toml: text of `aa.toml`, CoCo's; None if there is none.
        cdh_toml: text of `cdh.toml`, CoCo's; None if there is none.
    """

    algorithm: str
    config_toml: str
    pod_toml: str
    aa_toml: str | None = None
    cdh_toml: str | None = None


def parse_header(header: bytes) -> int:
    """Return the length in bytes of the gzip member from the first 16 bytes of a device.

    Raises:
        FormatError: `initdata.magic`.
        LimitExceededError: `initdata.length`.
    """
    if len(header) < HEADER_BYTES or header[: len(MAGIC)] != MAGIC:
        raise FormatError("initdata.magic", "the device does not begin with the initdata magic")
    length = int.from_bytes(header[len(MAGIC) : HEADER_BYTES], "little")
    if not 0 < length <= MAX_COMPRESSED_BYTES:
        raise LimitExceededError(
            "initdata.length",
            f"expected at most {MAX_COMPRESSED_BYTES} bytes of gzip, found {length}",
        )
    return length


def decompress_document(member: bytes) -> bytes:
    """Inflate exactly one gzip member of at most 1 MiB of plain text.

    Raises:
        FormatError: `initdata.gzip`.
        LimitExceededError: `initdata.size`.
    """
    inflater = zlib.decompressobj(_GZIP_WBITS)
    try:
        document = inflater.decompress(member, MAX_DOCUMENT_BYTES + 1)
    except zlib.error as error:
        raise FormatError("initdata.gzip", f"not a gzip member: {error}") from error
    if len(document) > MAX_DOCUMENT_BYTES:
        raise LimitExceededError("initdata.size", f"more than {MAX_DOCUMENT_BYTES} bytes of text")
    if not inflater.eof or inflater.unused_data:
        raise FormatError("initdata.gzip", "the gzip member is cut short or has bytes behind it")
    return document


def document_digest(document: bytes, algorithm: str) -> bytes:
    """Digest of the document's exact bytes with `sha256` or `sha384`."""
    return hashlib.new(algorithm, document).digest()


def parse_initdata(document: bytes) -> Initdata:
    """Parse a document under the strict schema of version 1.

    Raises:
        FormatError: `initdata.…`, the key that is wrong.
        LimitExceededError: `initdata.size`, no KBS would take it.
    """
    with Fields(parse_toml(document, "initdata.toml"), "initdata") as fields:
        _check_quoted_size(document)
        version = fields.text("version")
        algorithm = fields.text("algorithm")
        if version != _VERSION:
            raise FormatError("initdata.version", f"expected {_VERSION}, found {version[:40]!r}")
        if algorithm not in _ALGORITHMS:
            raise FormatError("initdata.algorithm", f"{algorithm[:40]!r} is not accepted")
        return fields.table("data", partial(_read_data, algorithm=algorithm))


def _check_quoted_size(document: bytes) -> None:
    quoted_bytes = len(document) + sum(document.count(byte) for byte in _ESCAPED)
    if quoted_bytes > MAX_QUOTED_BYTES:
        raise LimitExceededError(
            "initdata.size",
            f"expected at most {MAX_QUOTED_BYTES} bytes as a JSON text, found {quoted_bytes}:"
            " quotes, backslashes, tabs and line ends count twice",
        )


def _read_data(data: Fields, algorithm: str) -> Initdata:
    if data.has(_AGENT_POLICY):
        raise FormatError(
            f"initdata.data.{_AGENT_POLICY}", "there is no agent whose calls it could allow"
        )
    return Initdata(
        algorithm=algorithm,
        config_toml=data.text("ccinit.toml", max_bytes=MAX_DOCUMENT_BYTES),
        pod_toml=data.text("pod.toml", max_bytes=MAX_DOCUMENT_BYTES),
        aa_toml=data.optional_text("aa.toml", max_bytes=MAX_DOCUMENT_BYTES),
        cdh_toml=data.optional_text("cdh.toml", max_bytes=MAX_DOCUMENT_BYTES),
    )


def encode_device_image(document: bytes) -> bytes:
    """Make the block-device image of a document, padded to whole sectors of any disk."""
    member = zlib.compress(document, level=9, wbits=_GZIP_WBITS)
    image = MAGIC + len(member).to_bytes(8, "little") + member
    return image + bytes(-len(image) % DISK_ALIGNMENT_BYTES)
