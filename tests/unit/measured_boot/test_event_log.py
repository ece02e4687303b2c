import hashlib

import pytest

from ccinit.errors import FormatError
from ccinit.formats.tcg.event_log import Algorithm, LoggedEvent
from measured_boot.event_log import FirmwareLog, find_differences, read_firmware_log
from measured_boot.prediction import UkiBoot, predict
from measured_boot.tdx.registers import replay_rtmrs, rtmr_of
from measured_boot.tpm.boot_events import EXITS
from tests.fakes.platforms.event_logs import SHA1, SHA256, SHA384, log_event, log_header
from tests.fakes.published.pe_images import uki_image

PREDICTED = predict(UkiBoot(uki=uki_image())).events
CC_HEADER = log_header(((SHA384, 48),), register=1)


def event(register: int, digest: bytes, kind: int = 0xD) -> bytes:
    return log_event(register, {SHA1: bytes(20), SHA256: digest}, kind)


def log_of_prediction() -> bytes:
    return log_header() + b"".join(event(row.register, row.digest, row.kind) for row in PREDICTED)


def cc_log_of_prediction() -> bytes:
    rows = (
        log_event(rtmr_of(row.register) + 1, {SHA384: row.wide_digest}, row.kind)
        for row in (*PREDICTED, *EXITS)
    )
    return CC_HEADER + b"".join(rows) + b"\xff" * 64


def with_events(log: FirmwareLog, events: list[LoggedEvent]) -> FirmwareLog:
    return FirmwareLog(
        log=type(log.log)(events=tuple(events), records=b""), algorithm=log.algorithm
    )


TPM = read_firmware_log(log_of_prediction())
TDX = read_firmware_log(cc_log_of_prediction())


def test_read_firmware_log_tells_the_two_kinds_apart() -> None:
    assert (TPM.is_of_tdx, TPM.name_of(4)) == (False, "pcr4")
    assert (TDX.is_of_tdx, TDX.name_of(2)) == (True, "rtmr1")


@pytest.mark.parametrize("register", [0, 5, 9])
def test_tpms_log_of_another_bank_is_not_taken_for_that_of_a_td(register: int) -> None:
    rows = [log_event(index, {SHA384: bytes(48)}) for index in (1, register)]
    assert read_firmware_log(CC_HEADER + rows[0]).is_of_tdx
    with pytest.raises(FormatError) as error:
        read_firmware_log(CC_HEADER + b"".join(rows))
    assert error.value.reason == "event_log.bank"


def test_replay_gives_the_predicted_registers() -> None:
    registers = predict(UkiBoot(uki=uki_image())).registers
    assert TPM.replay() == {f"pcr{index}": registers[index] for index in (4, 9, 11)}
    assert TDX.replay() == {
        f"rtmr{index}": value for index, value in replay_rtmrs(PREDICTED).items()
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "event_log.truncated"),
        (log_header(((SHA1, 20),)), "event_log.header"),
        (log_of_prediction()[:-1], "event_log.truncated"),
        (cc_log_of_prediction()[:-70], "event_log.truncated"),
    ],
)
def test_read_firmware_log_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        read_firmware_log(data)
    assert error.value.reason == reason


@pytest.mark.parametrize("log", [TPM, TDX], ids=["tpm", "tdx"])
def test_find_differences_none_when_the_log_is_as_predicted(log: FirmwareLog) -> None:
    other = LoggedEvent(register=1, kind=1, digest=log.algorithm.hash(b""), data=b"")
    assert find_differences(PREDICTED, log) == ()
    assert find_differences(PREDICTED, with_events(log, [other, *log.log.events])) == ()


@pytest.mark.parametrize(
    ("log", "register", "subject"),
    [
        (TPM, 4, "firmware tries a boot option"),
        (TPM, 9, "command line"),
        (TDX, 2, "firmware tries a boot option"),
        (TDX, 3, "name of section .linux"),
    ],
)
def test_find_differences_names_the_first_of_each_register(
    log: FirmwareLog, register: int, subject: str
) -> None:
    wrong = hashlib.sha256(b"").digest()
    changed = [
        LoggedEvent(register=register, kind=row.kind, digest=wrong, data=b"")
        if row.register == register
        else row
        for row in log.log.events
    ]
    (difference,) = find_differences(PREDICTED, with_events(log, changed))
    assert (difference.register, difference.position) == (register, 0)
    assert difference.predicted is not None
    assert difference.predicted.subject == subject
    assert (
        difference.logged
        == changed[next(index for index, row in enumerate(changed) if row.register == register)]
    )


@pytest.mark.parametrize(("log", "register"), [(TPM, 9), (TDX, 2)])
def test_find_differences_sees_missing_and_additional_events(
    log: FirmwareLog, register: int
) -> None:
    events = list(log.log.events)
    (missing,) = find_differences(PREDICTED, with_events(log, events[:-1]))
    assert (missing.register, missing.logged) == (register, None)
    assert missing.predicted is not None
    (additional,) = find_differences(PREDICTED, with_events(log, [*events, events[-1]]))
    assert (additional.register, additional.predicted) == (register, None)
    assert log.algorithm in {Algorithm.SHA256, Algorithm.SHA384}
