"""What TDX measures of an image, and what the owner demands of the platform under it.

The members of a reference value file for `"platform": "tdx"`, hex throughout:

    "mrtd", "rtmr1", "rtmr2": 48 bytes each, predicted from firmware, kernel and initrd
    "events": {"1": [{"digest", "subject"}, …], "2": […]}    optional: what RTMR 1 and 2 are made of
    "xfam", "td_attributes": 8 bytes each, most significant first
    "mrseam": [48 bytes, …]                                  TDX modules that may run the domain
    "tcb": {"fmspc": [6 bytes, …], "tee_tcb_svn", "cpu_svn": 16 bytes, "pce_svn": number,
            "qe_mrsigner": 32 bytes, "qe_isv_svn": number}   machines, and the lowest versions

The floors come from Intel's TCB Info and QE Identity, which the owner reads when they register an
image; a newer advisory raises them by registering the file again. RTMR 0 is not here: it depends on
memory size and devices, and is judged by the event log (`guest_owner.kbs.verifiers.tdx`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ccinit.errors import FormatError
from ccinit.formats.fields import Fields
from ccinit.formats.tdx_report import MEASUREMENT_BYTES, ZERO_MEASUREMENT
from ccinit.formats.tee import Tee

FMSPC_BYTES = 6
COMPONENTS = 16
PREDICTED_RTMRS = (1, 2)
MAX_EVENTS = 256

_MAX_SVN = 0xFFFF
# ATTRIBUTES bits 0 to 7 are those of a domain that others can look into, DEBUG among them; without
# SEPT_VE_DISABLE the host can inject exceptions on private memory.
UNDER_DEBUG = 0xFF
SEPT_VE_DISABLE = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxTcb:
    """Which machines are good enough; the attributes are lowest values, lists what may be.

    Attributes:
        fmspc: processor families and platforms, 6 bytes each.
        tee_tcb_svn: of the TDX module, 16 components.
        cpu_svn: of microcode and its like, 16 components.
        pce_svn: of the provisioning enclave.
        qe_mrsigner: of the quoting enclave, exactly.
        qe_isv_svn: of the quoting enclave.
    """

    fmspc: tuple[bytes, ...]
    tee_tcb_svn: bytes
    cpu_svn: bytes
    pce_svn: int
    qe_mrsigner: bytes
    qe_isv_svn: int

    def __post_init__(self) -> None:
        if not self.fmspc or any(len(one) != FMSPC_BYTES for one in self.fmspc):
            raise FormatError("reference.tcb.fmspc", "expected at least one, of 6 bytes each")
        if not len(self.tee_tcb_svn) == len(self.cpu_svn) == COMPONENTS:
            raise FormatError("reference.tcb.cpu_svn", "expected 16 components")


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
    xfam: int
    td_attributes: int
    mrseam: tuple[bytes, ...]
    tcb: TdxTcb
    events: Mapping[int, tuple[PredictedEvent, ...]]

    def __post_init__(self) -> None:
        for name in ("mrtd", "rtmr1", "rtmr2"):
            value = getattr(self, name)
            if len(value) != MEASUREMENT_BYTES or value == ZERO_MEASUREMENT:
                raise FormatError(f"reference.{name}", "expected 48 bytes that are not all zero")
        if not self.mrseam or any(len(one) != MEASUREMENT_BYTES for one in self.mrseam):
            raise FormatError("reference.mrseam", "expected at least one, of 48 bytes each")
        if self.td_attributes & UNDER_DEBUG or not self.td_attributes & SEPT_VE_DISABLE:
            raise FormatError(
                "reference.td_attributes", "no bit below 8 may be set, and SEPT_VE_DISABLE must"
            )

    @property
    def identities(self) -> tuple[tuple[bytes, ...], ...]:
        """Each combination of values by which the image is recognised."""
        return ((self.mrtd, self.rtmr1, self.rtmr2),)

    def rtmr(self, index: int) -> bytes:
        """Return the predicted RTMR 1 or 2."""
        return {1: self.rtmr1, 2: self.rtmr2}[index]

    def to_json_object(self) -> dict[str, object]:
        """Return the members of a reference value file."""
        tcb = self.tcb
        value: dict[str, object] = {
            "mrtd": self.mrtd.hex(),
            "rtmr1": self.rtmr1.hex(),
            "rtmr2": self.rtmr2.hex(),
            "xfam": f"{self.xfam:016x}",
            "td_attributes": f"{self.td_attributes:016x}",
            "mrseam": [one.hex() for one in self.mrseam],
            "tcb": {
                "fmspc": [one.hex() for one in tcb.fmspc],
                "tee_tcb_svn": tcb.tee_tcb_svn.hex(),
                "cpu_svn": tcb.cpu_svn.hex(),
                "pce_svn": tcb.pce_svn,
                "qe_mrsigner": tcb.qe_mrsigner.hex(),
                "qe_isv_svn": tcb.qe_isv_svn,
            },
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
        xfam=int.from_bytes(fields.hexadecimal("xfam", size_bytes=8), "big"),
        td_attributes=int.from_bytes(fields.hexadecimal("td_attributes", size_bytes=8), "big"),
        mrseam=fields.hexadecimals("mrseam", size_bytes=MEASUREMENT_BYTES),
        tcb=fields.table("tcb", _read_tcb),
        events=fields.table("events", _read_events, default={}),
    )


def _read_tcb(fields: Fields) -> TdxTcb:
    return TdxTcb(
        fmspc=fields.hexadecimals("fmspc", size_bytes=FMSPC_BYTES),
        tee_tcb_svn=fields.hexadecimal("tee_tcb_svn", size_bytes=COMPONENTS),
        cpu_svn=fields.hexadecimal("cpu_svn", size_bytes=COMPONENTS),
        pce_svn=fields.integer("pce_svn", low=0, high=_MAX_SVN),
        qe_mrsigner=fields.hexadecimal("qe_mrsigner", size_bytes=32),
        qe_isv_svn=fields.integer("qe_isv_svn", low=0, high=_MAX_SVN),
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
