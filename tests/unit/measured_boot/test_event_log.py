from ccinit.formats.event_log import Algorithm, LoggedEvent, parse_event_log
from measured_boot.event_log import find_differences
from measured_boot.prediction import UkiBoot, predict
from tests.fakes.event_logs import SHA1, SHA256, log_event, log_header
from tests.fakes.pe_images import uki_image

PREDICTED = predict(UkiBoot(uki=uki_image())).events


def event(register: int, digest: bytes, kind: int = 0xD) -> bytes:
    return log_event(register, {SHA1: bytes(20), SHA256: digest}, kind)


def log_of_prediction() -> bytes:
    return log_header() + b"".join(event(row.register, row.digest, row.kind) for row in PREDICTED)


def logged_events(data: bytes) -> tuple[LoggedEvent, ...]:
    return parse_event_log(data, Algorithm.SHA256).events


def test_find_differences_none_when_the_log_is_as_predicted() -> None:
    logged = logged_events(
        log_header() + event(0, bytes(32)) + log_of_prediction()[len(log_header()) :]
    )
    assert find_differences(PREDICTED, logged) == ()


def test_find_differences_names_the_first_of_each_register() -> None:
    logged = list(logged_events(log_of_prediction()))
    changed = [
        LoggedEvent(register=row.register, kind=row.kind, digest=bytes(32), data=b"")
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
    logged = logged_events(log_of_prediction())
    (missing,) = find_differences(PREDICTED, logged[:-1])
    assert (missing.register, missing.logged, missing.logged_digest) == (9, None, "nothing more")
    (additional,) = find_differences(PREDICTED[:-1], logged)
    assert (additional.register, additional.predicted) == (9, None)
