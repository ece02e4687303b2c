"""Everything that the host can see of a guest, as searchable sinks.

One sink per way out: console-like devices, the panic device, EFI variables and ACPI's error records
(where pstore writes), vsock, network, disks. `bytes_seen` counts what the *guest* put there, not
the firmware's recorded output nor the host's own bytes. Content is read piece by piece, since a
guest may have written more than fits into memory. QEMU and the vsock device record;
`host_runtime.host_view.search` searches.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from ccinit.errors import FormatError
from host_runtime.host_view.efi_variables import EfiVariable, parse_variable_store
from host_runtime.host_view.firmware_text import FirmwareRecord
from host_runtime.host_view.pcap import count_bytes, join_streams, read_frames
from host_runtime.host_view.search import OVERLAP_BYTES, Searchable
from host_runtime.vsock.capture import (
    Stream,
    incomplete_path,
    open_capture,
    read_capture,
    read_records,
)

_PIECE_BYTES: Final = 4 * 1024 * 1024
_ERROR_SLOT_BYTES: Final = 8192
_PANIC_EVENTS: Final = frozenset({"GUEST_PANICKED", "GUEST_CRASHLOADED", "GUEST_PVSHUTDOWN"})


class Sink(Searchable, Protocol):
    """One way out of a guest."""

    def bytes_seen(self) -> int:
        """How many bytes the guest put there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSink:
    """A console-like device whose output is a file: serial, virtio console, debug ports."""

    name: str
    path: Path
    record: FirmwareRecord

    def bytes_seen(self) -> int:
        """See `Sink`."""
        return self.path.stat().st_size - self._start() if _is_there(self.path) else 0

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`."""
        if _is_there(self.path):
            with self.path.open("rb") as file:
                yield from _pieces(file, self._start(), self.path.stat().st_size)

    def content(self) -> bytes:
        """Return the whole content; for a guest that is known to write little."""
        return self.path.read_bytes()[self._start() :] if _is_there(self.path) else b""

    def _start(self) -> int:
        with self.path.open("rb") as file:
            head = file.read(self.record.longest_text(self.name))
        return len(head) - len(self.record.remove_text(self.name, head))


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicSink:
    """The pvpanic devices: a guest writes one byte, QEMU makes an event of it."""

    events: Path
    name: str = "pvpanic"

    def bytes_seen(self) -> int:
        """See `Sink`; one byte per event."""
        return len(self._lines())

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`; texts are searched both as JSON spells them and as they are."""
        for line in self._lines():
            yield line
            yield from _texts(_parse_event(line))

    def _lines(self) -> tuple[bytes, ...]:
        if not _is_there(self.events):
            return ()
        lines = self.events.read_bytes().splitlines()
        return tuple(line for line in lines if _is_panic(_parse_event(line)))


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSink:
    """EFI variables that a boot added or changed; without firmware there are none."""

    before: Path
    after: Path
    record: FirmwareRecord
    name: str = "pstore"

    def bytes_seen(self) -> int:
        """See `Sink`; the firmware's own variables do not count."""
        return sum(
            len(variable.name) + len(variable.value)
            for variable in self._changed()
            if variable.key not in self.record.variables
        )

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`; the firmware's own variables are searched too, by name and value."""
        for variable in self._changed():
            yield variable.name.encode("utf-16-le") + variable.value

    def changed_keys(self) -> frozenset[str]:
        """Return the keys of what was added or changed, for a record."""
        return frozenset(variable.key for variable in self._changed())

    def _changed(self) -> tuple[EfiVariable, ...]:
        if not _is_there(self.after):
            return ()
        before = set(parse_variable_store(self.before.read_bytes()))
        flash = self.after.read_bytes()
        try:
            after = parse_variable_store(flash)
        except FormatError:  # a guest can write raw flash: then count all of it as the guest's
            return (EfiVariable(vendor="", name="", value=flash),)
        return tuple(variable for variable in after if variable not in before)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecordSink:
    """The store of ACPI's error records (QEMU's docs/specs/acpi_erst.rst): slots behind a header.

    The kernel compresses its records, so the search finds no text in them; what counts is whether
    there are any.
    """

    store: Path
    name: str = "erst"

    def bytes_seen(self) -> int:
        """See `Sink`; each slot up to the last byte that was written."""
        return sum(map(len, self.pieces()))

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`."""
        if _is_there(self.store):
            records = self.store.read_bytes()[_ERROR_SLOT_BYTES:]  # the first is the header's
            for start in range(0, len(records), _ERROR_SLOT_BYTES):
                if record := records[start : start + _ERROR_SLOT_BYTES].rstrip(b"\0"):
                    yield record


@dataclass(frozen=True, slots=True, kw_only=True)
class VsockSink:
    """What crossed the vsock device; only the guest's side counts and is searched."""

    capture: Path
    name: str = "vsock"

    def bytes_seen(self) -> int:
        """See `Sink`; payload only."""
        if not self._was_made():
            return 0
        with open_capture(self.capture) as file:
            return sum(
                len(content)
                for _, stream, content in read_records(file)
                if stream is Stream.GUEST_PAYLOAD
            )

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`; headers are searched too."""
        if self._was_made():
            for (_, stream), content in read_capture(self.capture).items():
                if stream is not Stream.HOST_PAYLOAD:
                    yield content

    def _was_made(self) -> bool:
        return _is_there(self.capture) or _is_there(incomplete_path(self.capture))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSink:
    """What the guest sent on its network interface."""

    capture: Path
    mac: str
    name: str = "network"

    def bytes_seen(self) -> int:
        """See `Sink`; payload, and whole packets where no payload can be told apart."""
        if not _is_there(self.capture):
            return 0
        with self.capture.open("rb") as file:
            return count_bytes(read_frames(file), self._source())

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`."""
        if _is_there(self.capture):
            with self.capture.open("rb") as file:
                yield from join_streams(read_frames(file), self._source()).values()

    def _source(self) -> bytes:
        return bytes.fromhex(self.mac.replace(":", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSink:
    """The images of disks that the guest may write; holes are skipped."""

    images: tuple[Path, ...]
    name: str = "disks"

    def bytes_seen(self) -> int:
        """See `Sink`; only what is allocated on the host's disk."""
        return sum(end - start for image in self.images for start, end in _extents(image))

    def pieces(self) -> Iterator[bytes]:
        """See `Sink`."""
        for image in self.images:
            with image.open("rb") as file:
                for start, end in _extents(image):
                    yield from _pieces(file, start, end)


def _is_there(path: Path) -> bool:
    """Whether there is a file. Not by pathlib's `exists`: from Python 3.14 on it hides every error.

    Raises:
        OSError: it cannot be told; an unreadable sink must not count as empty.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    for offset in range(start, end, _PIECE_BYTES):
        file.seek(offset)
        yield file.read(min(_PIECE_BYTES + OVERLAP_BYTES, end - offset))


def _parse_event(line: bytes) -> object:
    """Return an event; None if its line is truncated, as on a full disk."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_panic(event: object) -> bool:
    """Whether an event is a guest's panic; a truncated one counts, since it may have been."""
    return event is None or (isinstance(event, dict) and event.get("event") in _PANIC_EVENTS)


def _texts(value: object) -> Iterator[bytes]:
    match value:
        case str():
            yield value.encode("utf-8", "surrogatepass")
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:  # numbers hold no text
            return


def _extents(image: Path) -> Iterator[tuple[int, int]]:
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        end = 0
        while end < size:
            try:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole from here on
                return
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield start, end
    finally:
        os.close(descriptor)


def report_bytes(sinks: Iterable[Sink]) -> dict[str, int]:
    """Return each sink's name and how many bytes the guest put there.

    Raises:
        FormatError: `sinks.twice`: two sinks have one name.
    """
    report: dict[str, int] = {}
    for sink in sinks:
        if sink.name in report:
            raise FormatError("sinks.twice", f"two sinks are called {sink.name}")
        report[sink.name] = sink.bytes_seen()
    return report
