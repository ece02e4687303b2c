"""RTMR 1 and 2: the registers of TDX that a boot extends, from the events of a TPM's registers.

Under TDX firmware measures the same events as into a TPM, but merges registers: PCR 2 to 6 into
RTMR 1, PCR 8 to 15 into RTMR 2. PCR 1 and 7, in RTMR 0, depend on memory, devices and the version
of QEMU, so RTMR 0 is not predicted: replay its log instead (`measured_boot.event_log`). RTMR 3
belongs to the guest.

Specification: UEFI 2.10, section 38.4.1 (mapping); EDK2, `OvmfPkg/TdxDxe` and
`OvmfPkg/Tcg/TdTcg2Dxe` (one separator for RTMR 1).
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, NewType

from measured_boot.tpm.boot_events import EXITS
from measured_boot.tpm.pcr import Event

RtmrValue = NewType("RtmrValue", bytes)
"""Content of a register of TDX, 48 bytes."""

ZERO_RTMR: Final = RtmrValue(bytes(48))
PREDICTED_RTMRS: Final = (1, 2)


def rtmr_of(register: int) -> int:
    """Return the RTMR that has the events of a PCR; 0 to 2.

    Raises:
        ValueError: PCR 0 is in MRTD, and registers from 16 on have no RTMR.
    """
    if register in {1, 7}:
        return 0
    if 2 <= register <= 6:
        return 1
    if 8 <= register <= 15:
        return 2
    raise ValueError(f"PCR {register} has no RTMR")


def replay_rtmrs(events: Iterable[Event]) -> Mapping[int, RtmrValue]:
    """Return RTMR 1 and 2 after the predicted events of a boot, and the kernel's take-over."""
    registers = dict.fromkeys(PREDICTED_RTMRS, ZERO_RTMR)
    for event in (*events, *EXITS):
        index = rtmr_of(event.register)
        registers[index] = RtmrValue(hashlib.sha384(registers[index] + event.wide_digest).digest())
    return registers
