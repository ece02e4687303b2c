"""What a host that records everything has in the end, and whether any of it is a secret."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from host_runtime.host_view.firmware_text import firmware_name
from host_runtime.host_view.search import Hit, find_canaries
from host_runtime.host_view.sinks import Sink, report_bytes
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.launch.launcher import GuestConfig
from tests.chain.show import PartyError

CONSOLES = ("serial", "console", "debugcon", "firmware_debug", "pvpanic", "pstore", "erst")
"""Sinks to which the guest's kernel and programs must not give one byte."""

BUSY = ("vsock", "network", "disks")
"""Sinks that no pod goes without: where one is empty, nobody has written anything down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """Bytes that one or several guests put into each sink, and the canaries found in them."""

    sinks: Mapping[str, int]
    hits: tuple[Hit, ...] = ()

    def __add__(self, other: "HostView") -> "HostView":
        names = {**self.sinks, **other.sinks}
        return HostView(
            sinks={name: self.sinks.get(name, 0) + other.sinks.get(name, 0) for name in names},
            hits=self.hits + other.hits,
        )

    @property
    def unheard(self) -> tuple[str, ...]:
        """The sinks that a guest with a pod must have filled, and has not."""
        return tuple(name for name in BUSY if not self.sinks.get(name))

    def complaints(self) -> tuple[str, ...]:
        """Return what the host should not have seen."""
        loud = [
            f"{self.sinks[name]} bytes came out of {name}"
            for name in CONSOLES
            if self.sinks.get(name)
        ]
        found = [f"{hit.canary} stands in {hit.sink} as {hit.encoding}" for hit in self.hits]
        return (*loud, *found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Content to search that is not a sink: a control, or what the owner has."""

    contents: tuple[bytes, ...]
    name: str = "owner"

    def pieces(self) -> Iterator[bytes]:
        """Yield each file whole."""
        yield from self.contents


def sinks_of(config: GuestConfig) -> tuple[Sink, ...]:
    """Return every way out of a guest that has ended."""
    assert config.firmware is not None
    return GuestFiles(folder=config.folder).all_sinks(
        firmware=firmware_name(config.firmware.code),
        disks=config.disks,
        mac=None if config.network is None else config.network.mac,
    )


def absent_records(files: GuestFiles) -> tuple[str, ...]:
    """Return the names of what every guest with a network is written down in, and is not there."""
    names = files.sinks
    texts = (names.serial, names.console, names.debugcon, names.firmware_debug)
    stores = (names.network, names.error_records, files.events, files.vsock_capture)
    records = (*texts, *stores)
    return tuple(path.name for path in records if not path.exists())


def require_recorded(files: GuestFiles) -> None:
    """Check that a guest's output is recorded: a missing record would contain no canary either.

    Raises:
        PartyError: a record is not there, or the serial port's has not even the firmware's words.
    """
    absent = absent_records(files)
    if not files.variables.exists():
        absent += (files.variables.name,)
    serial = files.sinks.serial
    if not absent and not serial.stat().st_size:
        absent = (serial.name,)
    if absent:
        raise PartyError("host", f"{files.folder.name}: nobody wrote down {', '.join(absent)}")


def look(config: GuestConfig, canaries: Mapping[str, bytes]) -> HostView:
    """Measure and search every sink of a guest that has ended.

    Raises:
        PartyError: see `require_recorded`.
    """
    require_recorded(GuestFiles(folder=config.folder))
    sinks = sinks_of(config)
    return HostView(sinks=report_bytes(sinks), hits=find_canaries(canaries, sinks))


def require_findable(
    canaries: Mapping[str, bytes], files: Iterable[Path], text: bytes
) -> tuple[Hit, ...]:
    """Show that the search finds every canary where it has to be: on the owner's side.

    Args:
        canaries: by name.
        files: of the owner.
        text: of the owner's log, and what else is not in a file.

    Raises:
        PartyError: one was not found, so that not finding it elsewhere proves nothing.
    """
    side = Contents(contents=(*(path.read_bytes() for path in files), text))
    hits = find_canaries(canaries, (side,))
    missing = set(canaries) - {hit.canary for hit in hits}
    if missing:
        raise PartyError("owner", f"the search does not find its own canaries: {sorted(missing)}")
    return hits
