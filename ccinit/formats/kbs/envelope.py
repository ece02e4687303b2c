"""The envelope: a resource body that says which resource it is.

A KBS reply is encrypted *to* the guest but not authenticated by that encryption, and a KBS (or its
store) can mix resources up. So the body repeats the URI and the kind, and the guest compares both
with what it asked for. JSON: `{"v": 1, "uri": …, "kind": …, "data": base64}`. A volume key may say
`"create": true`: the grant to format an empty disk.
"""

from enum import StrEnum

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import decode_base64, encode_base64, parse_json
from ccinit.formats.kbs.release import MAX_BODY_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.values import field, frozen


class EnvelopeKind(StrEnum):
    """What a resource is for; a key for one use is never taken for another."""

    VOLUME_KEY = "volume-key"
    TLS_IDENTITY = "tls-identity"
    LOG_PSK = "log-psk"
    DEBUG_GRANT = "debug-grant"
    IMAGE_KEY = "image-key"
    FILE = "file"


@frozen
class Envelope:
    """A parsed envelope.

    Attributes:
        create: whether the owner lets the guest format a blank disk with this key.
    """

    uri: ResourceUri
    kind: EnvelopeKind
    data: bytes = field(repr=False)
    create: bool = False


def parse_envelope(body: bytes) -> Envelope:
    """Parse a body.

    Raises:
        FormatError: `envelope.…`.
    """
    with Fields(parse_json(body, "envelope", MAX_BODY_BYTES), "envelope") as fields:
        fields.integer("v", low=1, high=1)
        envelope = Envelope(
            uri=parse_resource_uri(fields.text("uri"), "envelope.uri"),
            kind=fields.choice("kind", EnvelopeKind),
            data=decode_base64(fields.text("data", max_bytes=MAX_BODY_BYTES), "envelope.data"),
            create=fields.boolean("create", default=False),
        )
    if envelope.create and envelope.kind is not EnvelopeKind.VOLUME_KEY:
        raise FormatError("envelope.create", "only a volume key may grant creation")
    return envelope


def verify_envelope(body: bytes, uri: ResourceUri, kind: EnvelopeKind) -> Envelope:
    """Parse a body and return it if it is the resource that was asked for.

    Raises:
        FormatError: `envelope.…`; the detail begins with `uri`, since a pod asks for several.
        VerificationError: `envelope.uri` or `envelope.kind`.
    """
    try:
        envelope = parse_envelope(body)
    except FormatError as error:
        raise type(error)(error.reason, f"{uri}: {error.detail}") from error
    if envelope.uri != uri:
        raise VerificationError("envelope.uri", f"asked for {uri}, the body is {envelope.uri}")
    if envelope.kind is not kind:
        detail = f"{uri}: asked for {kind}, the body is {envelope.kind}"
        raise VerificationError("envelope.kind", detail)
    return envelope


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode an envelope as the body of a resource."""
    value: dict[str, object] = {
        "v": 1,
        "uri": str(envelope.uri),
        "kind": envelope.kind.value,
        "data": encode_base64(envelope.data),
    }
    if envelope.create:
        value["create"] = True
    return encode_json(value)
