"""The rollback counter of a persistent volume: the messages between a guest and its KBS.

A plugin of the KBS, in the session and under the token of every other resource:

    GET  /kbs/v0/rollback-counter/POD/VOLUME    → the counter
    POST the same, with `CounterAdvance`        → the counter after that

The reply names its counter, because its encryption *to* the guest does not show what it answers:
`{"v": 1, "uri": …, "counter": N}`. An advance is `{"v": 1, "to": N, "holder": base64url}`. It
succeeds only from N - 1, so if two guests have each opened a copy, only one gets N. That guest may
repeat its request, with the same random `holder`.
"""

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import (
    MAX_INTEGER,
    JsonValue,
    decode_base64url,
    encode_base64url,
    members,
    parse_json,
    text_member,
)
from ccinit.formats.kbs.resource_uri import PluginUri, ResourceUri, parse_kbs_uri
from ccinit.values import frozen

PLUGIN = "rollback-counter"
HOLDER_BYTES = 16
MAX_MESSAGE_BYTES = 4096
_SEGMENTS = 2


@frozen
class CounterReply:
    """The counter that the KBS holds now."""

    uri: PluginUri
    counter: int


@frozen
class CounterAdvance:
    """A request to advance a counter by one.

    Attributes:
        to: its new value.
        holder: 16 random bytes of the boot that asks.
    """

    to: int
    holder: bytes


def counter_uri(pod: str, volume: str) -> PluginUri:
    """Name the counter of a volume."""
    return PluginUri(PLUGIN, f"{pod}/{volume}", "")


def counter_rule(uri: PluginUri) -> ResourceUri:
    """Name the resource whose rule in the policy applies to a counter, too."""
    pod, _, volume = uri.path.partition("/")
    return ResourceUri("ccinit", pod, f"{PLUGIN}-{volume}")


def parse_counter_path(path: str) -> PluginUri:
    """Parse the part of a request's path after the plugin's name.

    Raises:
        FormatError: `counter.path`.
    """
    uri = parse_kbs_uri(f"kbs+{PLUGIN}:///{path}", "counter.path")
    if not isinstance(uri, PluginUri) or uri.query or uri.path.count("/") + 1 != _SEGMENTS:
        raise FormatError("counter.path", f"expected pod/volume, found {path[:80]!r}")
    return uri


def encode_counter_reply(reply: CounterReply) -> bytes:
    """Encode what `verify_counter_reply` reads."""
    return encode_json({"v": 1, "uri": str(reply.uri), "counter": reply.counter})


def verify_counter_reply(body: bytes, uri: PluginUri) -> int:
    """Return the counter if the body names `uri`, which was asked for.

    Raises:
        FormatError: `counter.…`.
        VerificationError: `counter.uri`.
    """
    value = _read(body, frozenset(("v", "uri", "counter")))
    if text_member(value, "uri", "counter") != str(uri):
        raise VerificationError("counter.uri", f"asked for {uri}, the body is another")
    return _integer(value["counter"], low=0)


def encode_counter_advance(advance: CounterAdvance) -> bytes:
    """Encode what `parse_counter_advance` reads."""
    value = {"v": 1, "to": advance.to, "holder": encode_base64url(advance.holder)}
    return encode_json(value)


def parse_counter_advance(body: bytes) -> CounterAdvance:
    """Parse the body of a POST.

    Raises:
        FormatError: `counter.…`.
    """
    value = _read(body, frozenset(("v", "to", "holder")))
    holder = decode_base64url(value["holder"], "counter.holder")
    if len(holder) != HOLDER_BYTES:
        raise FormatError("counter.holder", f"expected {HOLDER_BYTES} bytes, found {len(holder)}")
    return CounterAdvance(to=_integer(value["to"], low=1), holder=holder)


def _read(body: bytes, names: frozenset[str]) -> dict[str, JsonValue]:
    value = members(parse_json(body, "counter", MAX_MESSAGE_BYTES), names, "counter")
    if value["v"] != 1 or isinstance(value["v"], bool):
        raise FormatError("counter.v", "expected version 1")
    return dict(value)


def _integer(value: JsonValue, *, low: int) -> int:
    if type(value) is not int or not low <= value <= MAX_INTEGER:
        raise FormatError("counter.value", f"expected an integer from {low} on")
    return value
