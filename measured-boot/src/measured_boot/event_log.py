"""Say which event of a firmware's log is the first that differs from a prediction.

`ccinit.formats.tcg.event_log` parses the log. Linux shows that of a TPM as
`/sys/kernel/security/tpm0/binary_bios_measurements`, that of a confidential VM as
`/sys/firmware/acpi/tables/data/CCEL`. A log proves nothing by itself; it has to be replayed and
compared with a quoted register. Verifiers compare registers (`guest_owner.kbs`).

Specification: UEFI 2.10, section 38.4.1 (in a CC log, register 1 is RTMR 0).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.tcg.event_log import Algorithm, EventLog, LoggedEvent, parse_event_log
from measured_boot.tdx.registers import PREDICTED_RTMRS, rtmr_of
from measured_boot.tpm.boot_events import EXITS
from measured_boot.tpm.pcr import PREDICTED_REGISTERS, Event

_CC_REGISTERS: Final = range(1, 5)
"""RTMR 0 to 3. No event can extend 0, which is MRTD; a TPM's log begins with PCR 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareLog:
    """A log of either kind; made by `read_firmware_log`."""

    log: EventLog
    algorithm: Algorithm

    @property
    def is_of_tdx(self) -> bool:
        """Whether its registers are RTMRs and not PCRs."""
        return self.algorithm is Algorithm.SHA384

    def name_of(self, register: int) -> str:
        """Return the name of a register of this log."""
        return f"rtmr{register - 1}" if self.is_of_tdx else f"pcr{register}"

    def replay(self) -> dict[str, bytes]:
        """Return each register that an event extends, by name."""
        numbers = sorted({event.register for event in self.log.events})
        return {self.name_of(number): self.log.replay(number, self.algorithm) for number in numbers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first event of a register that is not as predicted; None where one side has no more.

    Attributes:
        register: its number in the log.
    """

    register: int
    position: int
    predicted: Event | None
    logged: LoggedEvent | None


def read_firmware_log(data: bytes) -> FirmwareLog:
    """Read a TPM's log, or that of a confidential VM, which has SHA-384 digests only.

    Raises:
        FormatError: with a reason below `event_log`; `event_log.bank`: it is a TPM's log without
            digests of the bank that predictions are for.
    """
    try:
        log = parse_event_log(data, Algorithm.SHA256)
    except FormatError as error:
        if error.reason != "event_log.header":
            raise
        log = parse_event_log(data, Algorithm.SHA384, end_marker=True)
        if not all(event.register in _CC_REGISTERS for event in log.events):
            detail = "a TPM's log without SHA-256 digests: its bank of SHA-256 was off"
            raise FormatError("event_log.bank", detail) from error
        return FirmwareLog(log=log, algorithm=Algorithm.SHA384)
    return FirmwareLog(log=log, algorithm=Algorithm.SHA256)


def find_differences(predicted: Iterable[Event], firmware: FirmwareLog) -> tuple[Difference, ...]:
    """Return the first difference of each predicted register, in the order of registers."""
    if firmware.is_of_tdx:
        rows = [(rtmr_of(event.register) + 1, event) for event in (*predicted, *EXITS)]
        registers = tuple(index + 1 for index in PREDICTED_RTMRS)
    else:
        rows = [(event.register, event) for event in predicted]
        registers = PREDICTED_REGISTERS
    found = (
        _find_first(
            register,
            [event for number, event in rows if number == register],
            [event for event in firmware.log.events if event.register == register],
            is_wide=firmware.is_of_tdx,
        )
        for register in registers
    )
    return tuple(difference for difference in found if difference is not None)


def _find_first(
    register: int, predicted: list[Event], logged: list[LoggedEvent], *, is_wide: bool
) -> Difference | None:
    for position, (ours, theirs) in enumerate(zip_longest(predicted, logged)):
        digest = None if ours is None else ours.wide_digest if is_wide else ours.digest
        if theirs is None or digest != theirs.digest:
            return Difference(register=register, position=position, predicted=ours, logged=theirs)
    return None
