"""The run-time measurement registers of a TDX quote, and the event log that explains them.

RTMR 1 and 2 (boot loaders and kernel; command line and initrd) have to equal the prediction, with
or without a log; the log only tells which event is the first that differs. RTMR 0 (firmware's
configuration: memory map, ACPI, boot variables) differs from machine to machine, and RTMR 3 (the
guest's own events) from moment to moment. These two have to be exactly what replaying the log
gives, and their part of the log may hold nothing that does not belong there. RTMR 3 also plays the
part of a TPM's PCR 15: a domain whose debug was opened is refused from then on. Type numbers of
RTMR 0's events are not measured; they are believed because RTMR 1 and 2 say which program passed
the log on.

TCG PC Client Platform Firmware Profile 1.06, table 27 (event types); TDX Virtual Firmware Design
Guide, section 8 (which register); UEFI 2.10, section 38.4.1 (log numbers are register + 1).
"""

from ccinit.errors import FormatError
from ccinit.formats.evidence.tdx_report import ZERO_MEASUREMENT, TdReportBody
from ccinit.formats.tcg.aael import GUEST_DOMAIN, OPEN_DEBUG, parse_aael_event
from ccinit.formats.tcg.event_log import Algorithm, EventLog, LoggedEvent, parse_event_log
from guest_owner.kbs.appraisal import ClaimList
from guest_owner.kbs.references.measurements.tdx import (
    PREDICTED_RTMRS,
    PredictedEvent,
    TdxMeasurements,
)

_SHA384 = Algorithm.SHA384
_SEPARATOR = 0x4
# Both values of a separator are fine; any other one says that firmware failed (table 27).
_GOOD_SEPARATORS = frozenset((_SHA384.hash(bytes(4)), _SHA384.hash(b"\xff" * 4)))
_CONFIGURATION_KINDS = frozenset(
    (
        _SEPARATOR,
        0x0000000A,  # EV_PLATFORM_CONFIG_FLAGS
        0x80000001,  # EV_EFI_VARIABLE_DRIVER_CONFIG
        0x80000002,  # EV_EFI_VARIABLE_BOOT
        0x80000008,  # EV_EFI_PLATFORM_FIRMWARE_BLOB
        0x80000009,  # EV_EFI_HANDOFF_TABLES
        0x8000000A,  # EV_EFI_PLATFORM_FIRMWARE_BLOB2
        0x8000000B,  # EV_EFI_HANDOFF_TABLES2
        0x8000000C,  # EV_EFI_VARIABLE_BOOT2
        0x800000E0,  # EV_EFI_VARIABLE_AUTHORITY
    )
)


def check_registers(
    body: TdReportBody, event_log: bytes | None, measured: TdxMeasurements, claims: ClaimList
) -> None:
    """Compare all four registers; claims `event_log.…` and `rtmr.0` to `rtmr.3`."""
    log = _read_log(event_log, claims)
    for index in PREDICTED_RTMRS:
        _check_predicted(index, body, log, measured, claims)
    _check_replayed(0, body, log, claims)
    _check_replayed(3, body, log, claims)


def _read_log(data: bytes | None, claims: ClaimList) -> EventLog | None:
    if data is None:
        return None
    try:
        return parse_event_log(data, _SHA384, end_marker=True)
    except FormatError as error:
        claims.fail(error)
        return None


def _check_predicted(
    index: int,
    body: TdReportBody,
    log: EventLog | None,
    measured: TdxMeasurements,
    claims: ClaimList,
) -> None:
    expected, got = measured.rtmr(index), body.rtmrs[index]
    why = ""
    if expected != got:
        why = f"; {_first_difference(_events(log, index), measured.events.get(index, ()))}"
        if log is None or log.replay(index + 1, _SHA384) != got:
            why = "; no event log explains it"
    claims.compare(f"rtmr.{index}", expected.hex(), got.hex() + why, holds=expected == got)


def _check_replayed(
    index: int, body: TdReportBody, log: EventLog | None, claims: ClaimList
) -> None:
    got = body.rtmrs[index]
    if log is None:
        # There is no log to judge by, which is fine for a register that was never extended.
        unused = index == 3 and got == ZERO_MEASUREMENT
        claims.compare(f"rtmr.{index}", "an event log", got.hex(), holds=unused)
        return
    replayed = log.replay(index + 1, _SHA384)
    foreign = _first_foreign_event(index, _events(log, index))
    expected = f"{replayed.hex()} by the event log"
    if foreign:
        claims.compare(f"rtmr.{index}", "events that belong there", foreign, holds=False)
    else:
        claims.compare(f"rtmr.{index}", expected, got.hex(), holds=replayed == got)


def _first_foreign_event(index: int, events: tuple[LoggedEvent, ...]) -> str:
    """Describe the first event that has no business in RTMR 0 or 3; "" if there is none."""
    for position, event in enumerate(events, 1):
        why = _not_configuration(event) if index == 0 else _not_the_guests(event)
        if why:
            return f"event {position}: {why}"
    return ""


def _not_configuration(event: LoggedEvent) -> str:
    if event.kind not in _CONFIGURATION_KINDS:
        return f"type {event.kind:#x}"
    if event.kind == _SEPARATOR and event.digest not in _GOOD_SEPARATORS:
        return "firmware reports an error"
    return ""


def _not_the_guests(event: LoggedEvent) -> str:
    try:
        said = parse_aael_event(event, _SHA384)
    except FormatError as error:
        return str(error)
    opened = (said.domain, said.operation) == (GUEST_DOMAIN, OPEN_DEBUG)
    return "debug was opened" if opened else ""


def _first_difference(
    logged: tuple[LoggedEvent, ...], predicted: tuple[PredictedEvent, ...]
) -> str:
    """Name the first event that is not as predicted, both sides counted from 1."""
    if not predicted:
        return f"{len(logged)} events, none registered to compare them with"
    for position, wanted in enumerate(predicted, 1):
        if position > len(logged):
            return f"event {position}: expected {wanted.subject}, found nothing more"
        if logged[position - 1].digest != wanted.digest:
            told = f"expected {wanted.digest.hex()} ({wanted.subject})"
            return f"event {position}: {told}, found {logged[position - 1].digest.hex()}"
    return f"event {len(predicted) + 1}: one more than expected"


def _events(log: EventLog | None, index: int) -> tuple[LoggedEvent, ...]:
    """Return the events of one register; its number in the log is one more."""
    if log is None:
        return ()
    return tuple(event for event in log.events if event.register == index + 1)
