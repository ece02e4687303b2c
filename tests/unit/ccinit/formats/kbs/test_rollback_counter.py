"""The messages about a volume's rollback counter: exact, and each about one counter."""

import json

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.rollback_counter import (
    CounterAdvance,
    CounterReply,
    counter_rule,
    counter_uri,
    encode_counter_advance,
    encode_counter_reply,
    parse_counter_advance,
    parse_counter_path,
    verify_counter_reply,
)

URI = counter_uri("shop", "data")
ADVANCE = CounterAdvance(to=7, holder=bytes(range(16)))


def reason(error: pytest.ExceptionInfo[CcinitError]) -> str:
    return error.value.reason


def test_counter_has_a_path_and_a_rule() -> None:
    assert URI.request_path == "rollback-counter/shop/data"
    assert parse_counter_path("shop/data") == URI
    assert counter_rule(URI) == parse_resource_uri("kbs:///ccinit/shop/rollback-counter-data")


@pytest.mark.parametrize("path", ["shop", "shop/data/x", "", "/data", "../data", "shop/data?a=b"])
def test_other_path_is_refused(path: str) -> None:
    with pytest.raises(CcinitError) as error:
        parse_counter_path(path)
    assert reason(error) == "counter.path"


def test_reply_gives_its_counter() -> None:
    assert verify_counter_reply(encode_counter_reply(CounterReply(uri=URI, counter=0)), URI) == 0
    body = encode_counter_reply(CounterReply(uri=URI, counter=2**53 - 1))
    assert verify_counter_reply(body, URI) == 2**53 - 1


def test_reply_about_another_volume_is_refused() -> None:
    body = encode_counter_reply(CounterReply(uri=counter_uri("shop", "other"), counter=7))
    with pytest.raises(CcinitError) as error:
        verify_counter_reply(body, URI)
    assert reason(error) == "counter.uri"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"v": 2}, "counter.v"),
        ({"v": True}, "counter.v"),
        ({"counter": -1}, "counter.value"),
        ({"counter": True}, "counter.value"),
        ({"counter": "7"}, "counter.value"),
        ({"uri": 7}, "counter.uri"),
        ({"more": 1}, "counter.members"),
    ],
)
def test_malformed_reply_is_refused(change: dict[str, object], expected: str) -> None:
    value = json.loads(encode_counter_reply(CounterReply(uri=URI, counter=7)))
    with pytest.raises(CcinitError) as error:
        verify_counter_reply(json.dumps(value | change).encode(), URI)
    assert reason(error) == expected


def test_advance_comes_back_as_it_was() -> None:
    assert parse_counter_advance(encode_counter_advance(ADVANCE)) == ADVANCE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"v": 0}, "counter.v"),
        ({"to": 0}, "counter.value"),
        ({"to": 2**53}, "counter.number"),
        ({"holder": "AAAA"}, "counter.holder"),
        ({"holder": 7}, "counter.holder"),
        ({"more": 1}, "counter.members"),
    ],
)
def test_malformed_advance_is_refused(change: dict[str, object], expected: str) -> None:
    value = json.loads(encode_counter_advance(ADVANCE))
    with pytest.raises(CcinitError) as error:
        parse_counter_advance(json.dumps(value | change).encode())
    assert reason(error) == expected
