"""What TDX measures of an image; the members of a reference value file, hex throughout:

    "mrtd", "rtmr1", "rtmr2": 48 bytes each, predicted from firmware, kernel and initrd
    "events": {"1": [{"digest", "subject"}, …], "2": […]}    optional: what RTMR 1 and 2 are made of

What the owner demands of the machine below is `guest_owner.kbs.references.tdx_requirements`. RTMR
0 is not here: it depends on memory size and devices, and is judged by the event log
(`guest_owner.kbs.verifiers.tdx_registers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.evidence.tdx_report import MEASUREMENT_BYTES, ZERO_MEASUREMENT
from ccinit.formats.evidence.tee import Tee

PREDICTED_RTMRS = (1, 2)
MAX_EVENTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedEvent:
    """One event of RTMR 1 or 2; `digest` is a SHA-384, `subject` for people."""

    digest: bytes
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxMeasurements:
    """The registered values of one image on TDX."""

    tee: ClassVar[Tee] = Tee.TDX
    mrtd: bytes
    rtmr1: bytes
    rtmr2: bytes
    events: Mapping[int, tuple[PredictedEvent, ...]]

    def __post_init__(self) -> None:
        for name in ("mrtd", "rtmr1", "rtmr2"):
            value = getattr(self, name)
            if len(value) != MEASUREMENT_BYTES or value == ZERO_MEASUREMENT:
                raise FormatError(f"reference.{name}", "expected 48 bytes that are not all zero")

    @property
    def identities(self) -> tuple[tuple[bytes, ...], ...]:
        """Each combination of values by which the image is recognised."""
        return ((self.mrtd, self.rtmr1, self.rtmr2),)

    def rtmr(self, index: int) -> bytes:
        """Return the predicted RTMR 1 or 2."""
        return {1: self.rtmr1, 2: self.rtmr2}[index]

    def to_json_object(self) -> dict[str, object]:
        """Return the members of a reference value file."""
        value: dict[str, object] = {
            "mrtd": self.mrtd.hex(),
            "rtmr1": self.rtmr1.hex(),
            "rtmr2": self.rtmr2.hex(),
        }
        if self.events:
            value["events"] = {
                str(index): [
                    {"digest": event.digest.hex(), "subject": event.subject} for event in events
                ]
                for index, events in self.events.items()
            }
        return value


def read_tdx(fields: Fields) -> TdxMeasurements:
    """Read what `TdxMeasurements.to_json_object` wrote."""
    return TdxMeasurements(
        mrtd=fields.hexadecimal("mrtd", size_bytes=MEASUREMENT_BYTES),
        rtmr1=fields.hexadecimal("rtmr1", size_bytes=MEASUREMENT_BYTES),
        rtmr2=fields.hexadecimal("rtmr2", size_bytes=MEASUREMENT_BYTES),
        events=fields.table("events", _read_events, default={}),
    )


def _read_events(fields: Fields) -> Mapping[int, tuple[PredictedEvent, ...]]:
    return {
        index: fields.tables(str(index), _read_event, max_items=MAX_EVENTS)
        for index in PREDICTED_RTMRS
    }


def _read_event(fields: Fields) -> PredictedEvent:
    return PredictedEvent(
        digest=fields.hexadecimal("digest", size_bytes=MEASUREMENT_BYTES),
        subject=fields.text("subject", max_bytes=256),
    )
