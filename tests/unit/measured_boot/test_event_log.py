import struct

import pytest

from ccinit.errors import FormatError, LimitExceededError
from measured_boot import event_log
from measured_boot.event_log import LoggedEvent, find_differences, parse_event_log, replay_log
from measured_boot.pcr import EventDigest, digest_of, replay
from measured_boot.prediction import UkiBoot, predict
from tests.fakes.pe_images import uki_image

SHA1, SHA256 = 0x4, 0xB
PREDICTED = predict(UkiBoot(uki=uki_image())).events


def header(
    algorithms: tuple[tuple[int, int], ...] = ((SHA1, 20), (SHA256, 32)),
    signature: bytes = b"Spec ID Event03\0",
    register: int = 0,
    kind: int = 3,
    major: int = 2,
) -> bytes:
    content = struct.pack("<16sIBBBBI", signature, 0, 0, major, 0, 2, len(algorithms))
    content += b"".join(struct.pack("<HH", *row) for row in algorithms) + b"\0"
    return struct.pack("<II20sI", register, kind, bytes(20), len(content)) + content


def event(register: int, digest: bytes, kind: int = 0xD, data: bytes = b"text") -> bytes:
    digests = struct.pack("<H", SHA1) + bytes(20) + struct.pack("<H", SHA256) + digest
    return struct.pack("<III", register, kind, 2) + digests + struct.pack("<I", len(data)) + data


def log_of_prediction() -> bytes:
    return header() + b"".join(event(row.register, row.digest, row.kind) for row in PREDICTED)


def test_parse_event_log_reads_events_in_order() -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    events = parse_event_log(header() + event(4, one) + event(11, two, 4, b""))
    assert events == (
        LoggedEvent(register=4, kind=0xD, digest=one, data=b"text"),
        LoggedEvent(register=11, kind=4, digest=two, data=b""),
    )
    assert replay_log(events, 4) == replay((one,))


def test_parse_event_log_leaves_out_what_extends_nothing() -> None:
    assert parse_event_log(header() + event(0, bytes(32), kind=3)) == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "event_log.length"),
        (header(signature=b"Spec ID Event02\0"), "event_log.header"),
        (header(register=1), "event_log.header"),
        (header(kind=4), "event_log.header"),
        (header(major=1), "event_log.header"),
        (header(algorithms=((SHA1, 20),)), "event_log.header"),
        (header(algorithms=((SHA256, 20),)), "event_log.header"),
        (header(algorithms=((SHA256, 32),) * 17), "event_log.header"),
        (header() + event(24, bytes(32)), "event_log.register"),
        (header() + event(4, bytes(32))[:-1], "event_log.length"),
        (header() + struct.pack("<III", 4, 4, 3), "event_log.digests"),
        (header() + struct.pack("<IIIH", 4, 4, 1, 0xC), "event_log.digests"),
        (header() + struct.pack("<IIIH20sI", 4, 4, 1, SHA1, b"", 0), "event_log.digests"),
        (header() + struct.pack("<III", 4, 4, 0), "event_log.digests"),
        (header() + event(4, bytes(32))[:-8] + b"\xff\xff\xff\xff", "event_log.length"),
    ],
)
def test_parse_event_log_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_event_log(data)
    assert error.value.reason == reason


def test_parse_event_log_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_LOG_BYTES", len(header()) - 1)
    with pytest.raises(LimitExceededError) as error:
        parse_event_log(header())
    assert error.value.reason == "event_log.length"


def test_find_differences_none_when_the_log_is_as_predicted() -> None:
    logged = parse_event_log(header() + event(0, bytes(32)) + log_of_prediction()[len(header()) :])
    assert find_differences(PREDICTED, logged) == ()


def test_find_differences_names_the_first_of_each_register() -> None:
    logged = list(parse_event_log(log_of_prediction()))
    changed = [
        LoggedEvent(register=row.register, kind=row.kind, digest=EventDigest(bytes(32)), data=b"")
        if row.register == 9
        else row
        for row in logged
    ]
    (difference,) = find_differences(PREDICTED, changed)
    assert (difference.register, difference.position) == (9, 0)
    assert difference.predicted is not None
    assert difference.predicted.subject == "command line"
    assert difference.logged_digest == "00" * 32


def test_find_differences_sees_missing_and_additional_events() -> None:
    logged = parse_event_log(log_of_prediction())
    (missing,) = find_differences(PREDICTED, logged[:-1])
    assert (missing.register, missing.logged, missing.logged_digest) == (9, None, "nothing more")
    (additional,) = find_differences(PREDICTED[:-1], logged)
    assert (additional.register, additional.predicted) == (9, None)
