"""The payload of a classic cosign signature: which image, under which name.

Simple signing as cosign and containers/image write it (cosign's SIGNATURE_SPEC.md): `critical` has
exactly its members, and `optional` is ignored. Bytes are read only after the signature over them
was verified.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.digest import Digest, parse_digest
from ccinit.formats.encoding.strict_json import members, parse_json, text_member
from ccinit.values import frozen

MAX_PAYLOAD_BYTES = 64 * 1024
_TYPE = "cosign container image signature"


@frozen
class SignedImage:
    """What a signature says.

    Attributes:
        digests: of manifests or indexes, each of which it vouches for.
        name: the image's `docker-reference`; None if this kind of signature has none.
    """

    digests: frozenset[Digest]
    name: str | None


def parse_simple_signing(payload: bytes) -> SignedImage:
    """Parse a verified payload.

    Raises:
        FormatError: `signature.payload.…`.
    """
    where = "signature.payload"
    value = members(
        parse_json(payload, where, MAX_PAYLOAD_BYTES), frozenset({"critical", "optional"}), where
    )
    critical = members(value["critical"], frozenset({"type", "image", "identity"}), where)
    if critical["type"] != _TYPE:
        raise FormatError(f"{where}.type", "not a signature of a container image")
    image = members(critical["image"], frozenset({"docker-manifest-digest"}), where)
    identity = members(critical["identity"], frozenset({"docker-reference"}), where)
    digest = parse_digest(text_member(image, "docker-manifest-digest", where), f"{where}.digest")
    return SignedImage(
        digests=frozenset({digest}), name=text_member(identity, "docker-reference", where)
    )
