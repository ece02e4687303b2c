"""The CoCo event log (AAEL): what the guest measures while it runs.

An event is three texts, `<domain> <operation> <content>`, separated by spaces, so a text may have
none. It is measured and logged as a tagged event of the TCG's log format:

    u32 0x4141454C ("LEAA" in memory), u32 length, text       its digest extends the register
    TCG_PCR_EVENT2 {register, EV_EVENT_TAG, that digest, tagged event}

The register is a PCR, or a measurement register of a confidential VM (TDX: RTMR 3 is number 4).
Trustee, `confidential-containers-eventlog.md`; its INIT record is not written. `ccinit.agent`
decides which events there are.
"""

import struct
from typing import Final

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.byte_reader import LittleEndianReader
from ccinit.formats.tcg.event_log import Algorithm, LoggedEvent
from ccinit.values import frozen

TAG: Final = 0x4141454C
EVENT_TAG: Final = 6  # EV_EVENT_TAG
COCO_DOMAIN: Final = "github.com/confidential-containers"
GUEST_DOMAIN: Final = "ccinit"
OPEN_DEBUG: Final = "OpenDebug"
"""The guest's own operation, by which a verifier knows that the guest was opened for debugging."""
MAX_TEXT_BYTES: Final = 4096


@frozen
class AaelEvent:
    """One event; each text is printable ASCII without spaces, all three together 4 KiB at most."""

    domain: str
    operation: str
    content: str

    def __post_init__(self) -> None:
        for name in ("domain", "operation", "content"):
            text = getattr(self, name)
            if not text or any(not "!" <= letter <= "~" for letter in text):
                raise FormatError(f"aael.{name}", "expected printable ASCII without spaces")
        if len(str(self)) > MAX_TEXT_BYTES:
            raise LimitExceededError(
                "aael.length", f"expected at most 4096 bytes, found {len(str(self))}"
            )

    def __str__(self) -> str:
        return f"{self.domain} {self.operation} {self.content}"

    def to_tagged_event(self) -> bytes:
        """Return the bytes whose digest is measured."""
        text = str(self).encode("ascii")
        return struct.pack("<II", TAG, len(text)) + text

    def digest(self, algorithm: Algorithm) -> bytes:
        """Return the digest that the register is extended with."""
        return algorithm.hash(self.to_tagged_event())

    def to_logged_event(self, register: int, algorithm: Algorithm) -> LoggedEvent:
        """Return the event's record; `register` is its number in the platform's log."""
        data = self.to_tagged_event()
        return LoggedEvent(
            register=register, kind=EVENT_TAG, digest=algorithm.hash(data), data=data
        )


def parse_aael_event(logged: LoggedEvent, algorithm: Algorithm) -> AaelEvent:
    """Read a record; its digest must be that of its data, which is what these events measure.

    Raises:
        FormatError: `aael.…`.
    """
    if logged.kind != EVENT_TAG:
        raise FormatError("aael.kind", f"event type {logged.kind:#x} is not a tagged event")
    reader = LittleEndianReader(logged.data, "aael")
    if reader.u32() != TAG:
        raise FormatError("aael.tag", "tagged by somebody else")
    encoded = reader.take(reader.u32())
    reader.end()
    if logged.digest != algorithm.hash(logged.data):
        raise FormatError("aael.digest", "the digest is not that of the event")
    try:
        parts = encoded.decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise FormatError("aael.text", "not ASCII") from error
    if len(parts) != 3:
        raise FormatError("aael.text", f"expected 3 texts, found {len(parts)}")
    domain, operation, content = parts
    return AaelEvent(domain=domain, operation=operation, content=content)
