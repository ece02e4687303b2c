"""AAEL records against the digests that Trustee's own tests have (recomputed with OpenSSL)."""

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.tcg.aael import AaelEvent, parse_aael_event
from ccinit.formats.tcg.event_log import Algorithm, LoggedEvent, encode_event
from ccinit.values import replace
from tests.fakes.platforms.event_logs import SHA384, log_event

EVENT = AaelEvent(domain="domain", operation="operation", content="content")
TAGGED = bytes.fromhex("4c45414118000000") + b"domain operation content"
SHA256_DIGEST = "46df8dacf00a07d34a83cdf56d7978697790787cf2ba1432ef7c38f22cd96351"
SHA384_DIGEST = (
    "dad5f0e226318ffa9839b75a472c6aa7fdb5834949d0a0a2"
    "2990cf04d5692440fb00f3aa0609db7e49cd8d793f670d02"
)


def test_event_has_the_reference_bytes_and_digests() -> None:
    assert EVENT.to_tagged_event() == TAGGED
    assert EVENT.digest(Algorithm.SHA256).hex() == SHA256_DIGEST
    assert EVENT.digest(Algorithm.SHA384).hex() == SHA384_DIGEST


def test_record_is_a_tagged_event_of_its_register() -> None:
    logged = EVENT.to_logged_event(4, Algorithm.SHA384)
    expected = log_event(4, {SHA384: bytes.fromhex(SHA384_DIGEST)}, 6, TAGGED)
    assert encode_event(logged, Algorithm.SHA384) == expected
    assert parse_aael_event(logged, Algorithm.SHA384) == EVENT


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("domain", ""),
        ("domain", "two words"),
        ("operation", "line\nbreak"),
        ("operation", "tab\t"),
        ("content", '{"a": 1}'),
        ("content", "\x7f"),
        ("content", "é"),
    ],
)
def test_event_with_a_text_that_breaks_the_grammar_is_refused(field: str, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        replace(EVENT, **{field: text})
    assert caught.value.reason == f"aael.{field}"


def test_event_longer_than_its_cap_is_refused() -> None:
    longest = 4096 - len("domain operation ")
    assert len(str(replace(EVENT, content="x" * longest))) == 4096
    with pytest.raises(LimitExceededError) as caught:
        replace(EVENT, content="x" * (longest + 1))
    assert caught.value.reason == "aael.length"


def record(data: bytes, kind: int = 6) -> LoggedEvent:
    return LoggedEvent(register=4, kind=kind, digest=Algorithm.SHA384.hash(data), data=data)


@pytest.mark.parametrize(
    ("logged", "reason"),
    [
        pytest.param(record(TAGGED, kind=0xD), "aael.kind", id="another event type"),
        pytest.param(record(b"\0" + TAGGED[1:]), "aael.tag", id="another tag"),
        pytest.param(record(TAGGED[:-1]), "aael.truncated", id="cut"),
        pytest.param(record(TAGGED + b"x"), "aael.trailing", id="longer"),
        pytest.param(record(b""), "aael.truncated", id="empty"),
        pytest.param(replace(record(TAGGED), digest=bytes(48)), "aael.digest", id="digest"),
        pytest.param(record(TAGGED[:4] + b"\x03\0\0\0a b"), "aael.text", id="two texts"),
        pytest.param(record(TAGGED[:4] + b"\x07\0\0\0a b c d"), "aael.text", id="four texts"),
        pytest.param(record(TAGGED[:4] + b"\x05\0\0\0a b \xff"), "aael.text", id="not ASCII"),
        pytest.param(record(TAGGED[:4] + b"\x04\0\0\0 b c"), "aael.domain", id="no domain"),
    ],
)
def test_record_that_is_no_event_is_refused(logged: LoggedEvent, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_aael_event(logged, Algorithm.SHA384)
    assert caught.value.reason == reason
