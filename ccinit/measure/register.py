"""A common interface to the platforms' runtime measurement registers.

A register changes only by `new = H(old || digest)`. This module says which register each platform
uses for the event log; `ccinit.agent` and `ccinit.measure.initdata` decide what else goes where.
Children access the registers: by `tpm_pcr`, and by `ccinit.kernel` for TDX.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Protocol

from ccinit.formats.evidence.tee import Tee
from ccinit.formats.tcg.event_log import Algorithm
from ccinit.values import frozen


class Pcr(IntEnum):
    """The PCRs of the SHA-256 bank that the guest extends, and no others.

    16 and 23 can be reset by the guest itself; 17 to 22 belong to dynamic launch.
    """

    INITDATA = 8
    EVENT_LOG = 14
    DEBUG = 15


class MeasurementRegister(Protocol):
    """A register of 32 or 48 bytes that can be extended and read, never written."""

    def extend(self, digest: bytes) -> None:
        """Extend with a digest of the register's own length."""

    def read(self) -> bytes:
        """Return the current value."""


@frozen
class EventRegister:
    """A register that proves what the guest has done.

    Attributes:
        name: for people.
        number: in records of the log.
        algorithm: of its digests.
    """

    name: str
    number: int
    algorithm: Algorithm


_PCR_15: Final = EventRegister(name="PCR 15", number=Pcr.DEBUG, algorithm=Algorithm.SHA256)
_PCR_14: Final = EventRegister(name="PCR 14", number=Pcr.EVENT_LOG, algorithm=Algorithm.SHA256)

EVENT_REGISTERS: Final[Mapping[Tee, EventRegister]] = {
    Tee.TPM: _PCR_14,
    Tee.AZ_SNP_VTPM: _PCR_14,
    Tee.AZ_TDX_VTPM: _PCR_14,
    Tee.SVSM: _PCR_14,
    # Records of a confidential VM count from 1 (UEFI 2.10, section 38.4.1). Linux has it from 6.16.
    Tee.TDX: EventRegister(name="RTMR 3", number=4, algorithm=Algorithm.SHA384),
}
"""Platforms that are not listed, such as SNP, have no register that the guest may extend."""

DEBUG_REGISTERS: Final[Mapping[Tee, EventRegister]] = {
    Tee.TPM: _PCR_15,
    Tee.AZ_SNP_VTPM: _PCR_15,
    Tee.AZ_TDX_VTPM: _PCR_15,
    Tee.SVSM: _PCR_15,
}
"""The register that shows only whether debug was opened.

TDX has none to spare: there it is an event among the others, in RTMR 3.
"""
