"""The folder of one boot: names of its files, and the same files as sinks.

QEMU and the processes that `host_runtime.launch.launcher` starts fill them.
"""

from dataclasses import dataclass
from pathlib import Path

from host_runtime.host_view.firmware_text import FirmwareRecord, read_record
from host_runtime.host_view.sinks import (
    DiskSink,
    ErrorRecordSink,
    NetworkSink,
    PanicSink,
    Sink,
    TextSink,
    VariableSink,
    VsockSink,
)
from host_runtime.machine.qemu import Disk, SinkFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFiles:
    """Names inside one boot's folder."""

    folder: Path

    @property
    def sinks(self) -> SinkFiles:
        """Files of the console-like devices."""
        return SinkFiles(
            serial=self.folder / "serial",
            console=self.folder / "console",
            debugcon=self.folder / "debugcon",
            firmware_debug=self.folder / "firmware-debug",
            network=self.folder / "network.pcap",
            error_records=self.folder / "error-records",
        )

    @property
    def events(self) -> Path:
        """QMP events, one JSON object per line."""
        return self.folder / "events.jsonl"

    @property
    def vsock_capture(self) -> Path:
        """What crossed the vsock device."""
        return self.folder / "vsock.capture"

    @property
    def vsock_link(self) -> Path:
        """A symbolic link to the guest's vsock socket, while the guest runs."""
        return self.folder / "vsock"

    @property
    def variables(self) -> Path:
        """This guest's EFI variables."""
        return self.folder / "variables.fd"

    @property
    def pristine_variables(self) -> Path:
        """The variables as they were before the boot."""
        return self.folder / "variables.before.fd"

    def log(self, name: str) -> Path:
        """Return the log of one of our own processes."""
        return self.folder / f"{name}.log"

    def text_sinks(self, record: FirmwareRecord) -> tuple[TextSink, ...]:
        """Return the console-like sinks, by the names of the demo's report."""
        sinks = self.sinks
        return (
            TextSink(name="serial", path=sinks.serial, record=record),
            TextSink(name="console", path=sinks.console, record=record),
            TextSink(name="debugcon", path=sinks.debugcon, record=record),
            TextSink(name="firmware_debug", path=sinks.firmware_debug, record=record),
        )

    def variable_sink(self, record: FirmwareRecord) -> VariableSink:
        """Return the EFI variables' sink."""
        return VariableSink(before=self.pristine_variables, after=self.variables, record=record)

    def all_sinks(
        self, *, firmware: str, disks: tuple[Disk, ...], mac: str | None
    ) -> tuple[Sink, ...]:
        """Return every sink of a boot.

        Args:
            firmware: the name (`firmware_text.firmware_name`) of the firmware that was booted.
            disks: the guest's disks; those it could write are sinks.
            mac: the address of the guest's network interface, if it had one.
        """
        record = read_record(firmware)
        images = tuple(disk.path for disk in disks if not disk.is_read_only)
        network = () if mac is None else (NetworkSink(capture=self.sinks.network, mac=mac),)
        return (
            *self.text_sinks(record),
            PanicSink(events=self.events),
            self.variable_sink(record),
            ErrorRecordSink(store=self.sinks.error_records),
            VsockSink(capture=self.vsock_capture),
            *network,
            DiskSink(images=images),
        )
