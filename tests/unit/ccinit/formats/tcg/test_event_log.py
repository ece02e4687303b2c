"""The TCG's log form, as a TPM has it and as CCEL has it."""

import hashlib
import struct

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.tcg import event_log
from ccinit.formats.tcg.event_log import (
    END_OF_RECORDS,
    Algorithm,
    LoggedEvent,
    encode_event,
    encode_header,
    parse_event_log,
    replay,
)
from tests.fakes.platforms.event_logs import SHA1, SHA256, SHA384, log_event, log_header


def event(register: int, digest: bytes, kind: int = 0xD, data: bytes = b"text") -> bytes:
    return log_event(register, {SHA1: bytes(20), SHA256: digest}, kind, data)


def cc_event(register: int, digest: bytes) -> bytes:
    return log_event(register, {SHA384: digest}, 0xD)


ONE, TWO = b"\1" * 32, b"\2" * 32
CC_HEADER = log_header(((SHA384, 48),), register=1)  # as EDK2 writes it (OvmfPkg/Tcg/TdTcg2Dxe)
CC_LOG = CC_HEADER + cc_event(1, b"\1" * 48) + cc_event(2, b"\2" * 48) + cc_event(1, b"\3" * 48)


def test_parse_event_log_reads_events_in_order() -> None:
    log = parse_event_log(log_header() + event(4, ONE) + event(11, TWO, 4, b""), Algorithm.SHA256)
    assert log.events == (
        LoggedEvent(register=4, kind=0xD, digest=ONE, data=b"text"),
        LoggedEvent(register=11, kind=4, digest=TWO, data=b""),
    )
    assert log.replay(4, Algorithm.SHA256) == hashlib.sha256(bytes(32) + ONE).digest()
    assert log.replay(5, Algorithm.SHA256) == bytes(32)


def test_parse_event_log_leaves_out_what_extends_nothing() -> None:
    log = parse_event_log(log_header() + event(0, bytes(32), kind=3), Algorithm.SHA256)
    assert log.events == ()


def test_an_event_that_extends_nothing_may_be_of_no_register() -> None:
    """As newer firmware has it that names its reference measurements (SP800-155)."""
    unbound = event(0xFFFFFFFF, bytes(32), 3, b"SP800-155 Event3")
    started = event(0, bytes(32), 3, b"StartupLocality\0\3")
    log = parse_event_log(log_header() + started + unbound + event(0, ONE), Algorithm.SHA256)
    assert log == parse_event_log(log.records, Algorithm.SHA256)
    assert log.records.count(unbound) == 1
    assert [one.register for one in log.events] == [0]
    assert log.startup_locality == 3


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_replay_of_pcr_0_begins_with_the_startup_locality(locality: int) -> None:
    """As a machine with an authenticated code module or an H-CRTM has it."""
    started = event(0, bytes(32), 3, b"StartupLocality\0" + bytes([locality]))
    log = parse_event_log(log_header() + started + event(0, ONE) + event(1, ONE), Algorithm.SHA256)
    begin = bytes(31) + bytes([locality])
    assert log.startup_locality == locality
    assert log.replay(0, Algorithm.SHA256) == hashlib.sha256(begin + ONE).digest()
    assert log.replay(1, Algorithm.SHA256) == hashlib.sha256(bytes(32) + ONE).digest()


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(event(0, bytes(32), 3, b"StartupLocality\0"), id="without a number"),
        pytest.param(event(0, bytes(32), 3, b"StartupLocality\0\3\0"), id="with two bytes"),
        pytest.param(event(0, bytes(32), 3, b"StartupLocality\0\1"), id="locality 1"),
        pytest.param(event(1, bytes(32), 3, b"StartupLocality\0\3"), id="of PCR 1"),
        pytest.param(event(0, bytes(32), 3, b"StartupLocality\0\3") * 2, id="twice"),
    ],
)
def test_startup_locality_that_is_none_is_refused(events: bytes) -> None:
    assert parse_event_log(
        log_header() + event(0, bytes(32), 3, b"StartupLocality\0\3"), Algorithm.SHA256
    )
    with pytest.raises(FormatError) as caught:
        parse_event_log(log_header() + events, Algorithm.SHA256)
    assert caught.value.reason == "event_log.locality"


@pytest.mark.parametrize(
    "behind", [END_OF_RECORDS, END_OF_RECORDS + b"left over", bytes(8), bytes(5000), bytes(3), b""]
)
def test_cc_event_log_ends_at_its_marker_or_at_untouched_memory(behind: bytes) -> None:
    log = parse_event_log(CC_LOG + behind, Algorithm.SHA384, end_marker=True)
    assert log.records == CC_LOG
    assert [one.register for one in log.events] == [1, 2, 1]
    expected = hashlib.sha384(bytes(48) + b"\1" * 48).digest()
    expected = hashlib.sha384(expected + b"\3" * 48).digest()
    assert log.replay(1, Algorithm.SHA384) == expected


def test_cc_event_log_does_not_end_within_a_record() -> None:
    with pytest.raises(FormatError) as refused:
        parse_event_log(CC_LOG + b"\1\0\0\0\3", Algorithm.SHA384, end_marker=True)
    assert refused.value.reason == "event_log.truncated"


@pytest.mark.parametrize("register", [0, 1])
def test_cc_event_log_begins_with_either_number_of_the_first_register(register: int) -> None:
    header = log_header(((SHA384, 48),), register=register)
    log = parse_event_log(header + cc_event(1, b"\1" * 48), Algorithm.SHA384)
    assert len(log.events) == 1
    with pytest.raises(FormatError) as caught:
        parse_event_log(log_header(((SHA384, 48),), register=2), Algorithm.SHA384)
    assert caught.value.reason == "event_log.header"


def test_marker_is_an_event_where_none_is_due() -> None:
    with pytest.raises(FormatError) as caught:
        parse_event_log(CC_LOG + END_OF_RECORDS, Algorithm.SHA384)
    assert caught.value.reason == "event_log.truncated"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "event_log.truncated", id="empty"),
        pytest.param(b"version = 1, name = shop, and more", "event_log.header", id="a text"),
        pytest.param(
            log_header(signature=b"Spec ID Event02\0"), "event_log.header", id="signature"
        ),
        pytest.param(log_header(register=1), "event_log.header", id="header's register"),
        pytest.param(log_header(kind=4), "event_log.header", id="header's type"),
        pytest.param(log_header(major=1), "event_log.header", id="old version"),
        pytest.param(log_header(((SHA1, 20),)), "event_log.header", id="no SHA-256"),
        pytest.param(log_header(((SHA256, 20),)), "event_log.header", id="short SHA-256"),
        pytest.param(log_header(((SHA256, 32),) * 17), "event_log.header", id="17 algorithms"),
        pytest.param(log_header() + event(24, ONE), "event_log.register", id="register 24"),
        pytest.param(log_header() + event(24, ONE, 3), "event_log.register", id="silent 24"),
        pytest.param(log_header() + event(0xFFFFFFFF, ONE), "event_log.register", id="no register"),
        pytest.param(
            log_header() + event(0xFFFFFFFF, ONE, 3, b"StartupLocality\0\3"),
            "event_log.locality",
            id="locality of no register",
        ),
        pytest.param(log_header() + event(4, ONE)[:-1], "event_log.truncated", id="cut"),
        pytest.param(
            log_header() + struct.pack("<III", 4, 4, 3), "event_log.digests", id="too many"
        ),
        pytest.param(
            log_header() + struct.pack("<IIIH", 4, 4, 1, 0xC), "event_log.digests", id="unknown"
        ),
        pytest.param(
            log_header() + log_event(4, {SHA1: bytes(20)}), "event_log.digests", id="other bank"
        ),
        pytest.param(log_header() + log_event(4, {}), "event_log.digests", id="no digest"),
        pytest.param(
            log_header() + struct.pack("<IIIH32sH32sI", 4, 4, 2, SHA256, ONE, SHA256, TWO, 0),
            "event_log.digests",
            id="two digests of one algorithm",
        ),
        pytest.param(
            log_header() + event(4, ONE)[:-8] + b"\xff\xff\xff\xff",
            "event_log.truncated",
            id="4 GiB of data",
        ),
    ],
)
def test_parse_event_log_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_event_log(data, Algorithm.SHA256)
    assert caught.value.reason == reason


def test_parse_event_log_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_LOG_BYTES", len(log_header()) - 1)
    with pytest.raises(LimitExceededError) as caught:
        parse_event_log(log_header(), Algorithm.SHA256)
    assert caught.value.reason == "event_log.length"


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_encoded_log_is_laid_out_as_the_profile_says(algorithm: Algorithm) -> None:
    digest = bytes(range(algorithm.digest_bytes))
    one = LoggedEvent(register=14, kind=6, digest=digest, data=b"data")
    assert encode_header(algorithm) == log_header(((algorithm, algorithm.digest_bytes),))
    assert encode_event(one, algorithm) == log_event(14, {algorithm: digest}, 6, b"data")
    log = parse_event_log(encode_header(algorithm) + encode_event(one, algorithm), algorithm)
    assert log.events == (one,)


def test_replay_goes_on_from_a_value() -> None:
    first = replay((ONE,), Algorithm.SHA256)
    assert replay((TWO,), Algorithm.SHA256, first) == replay((ONE, TWO), Algorithm.SHA256)
