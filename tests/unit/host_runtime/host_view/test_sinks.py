"""Each kind of sink: an empty one is empty, and a canary in each encoding is found in it."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from ccinit.errors import FormatError
from host_runtime.host_view.firmware_text import FirmwareRecord
from host_runtime.host_view.search import Encoding, encode_canary, find_canaries
from host_runtime.host_view.sinks import (
    DiskSink,
    ErrorRecordSink,
    NetworkSink,
    PanicSink,
    Sink,
    TextSink,
    VariableSink,
    VsockSink,
    report_bytes,
)
from host_runtime.machine.disks import create_sparse_disk
from host_runtime.vsock.capture import CaptureWriter, Stream

CANARY = b"CANARY-5f2b81d3a97e"
RECORD = FirmwareRecord(firmware="x", texts={"serial": (b"BdsDxe\r\n",)}, variables=frozenset())
MAC = "52:54:00:cc:00:01"
FIRMWARE_VENDOR = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")


def text_sink(folder: Path, content: bytes) -> Sink:
    (folder / "serial").write_bytes(b"BdsDxe\r\n" + content)
    return TextSink(name="serial", path=folder / "serial", record=RECORD)


def panic_sink(folder: Path, content: bytes) -> Sink:
    events = [{"event": "RESUME"}]
    if content:
        events.append({"event": "GUEST_PANICKED", "data": content.decode("latin-1")})
    (folder / "events").write_text("".join(json.dumps(event) + "\n" for event in events))
    return PanicSink(events=folder / "events")


def variable(name: str, value: bytes) -> bytes:
    wide = (name + "\0").encode("utf-16-le")
    head = struct.pack(
        "<HBBIQ16sIII16s",
        *(0x55AA, 0x3F, 0, 7, 0, bytes(16), 0, len(wide), len(value), FIRMWARE_VENDOR.bytes_le),
    )
    entry = head + wide + value
    return entry + b"\xff" * (-len(entry) % 4)


def flash(*variables: bytes) -> bytes:
    volume = bytearray(72)
    volume[40:44] = b"_FVH"
    volume[48:50] = struct.pack("<H", 72)
    return (bytes(volume) + bytes(28) + b"".join(variables)).ljust(16384, b"\xff")


def variable_sink(folder: Path, content: bytes) -> Sink:
    before = variable("BootOrder", b"\0\0")
    (folder / "before").write_bytes(flash(before))
    added = (variable("dump-type0-1", content),) if content else ()
    (folder / "after").write_bytes(flash(before, *added))
    return VariableSink(before=folder / "before", after=folder / "after", record=RECORD)


def vsock_sink(folder: Path, content: bytes) -> Sink:
    middle = len(content) // 2
    with CaptureWriter(folder / "vsock") as capture:
        capture.write(1, Stream.GUEST_PAYLOAD, content[:middle])
        capture.write(2, Stream.HOST_PAYLOAD, b"the host's own bytes")
        capture.write(1, Stream.GUEST_PAYLOAD, content[middle:])
    return VsockSink(capture=folder / "vsock")


def frame(payload: bytes, sequence: int, source: str = MAC) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", 1000, 443, sequence, 0, 5 << 4, 0, 0, 0, 0)
    size = 20 + len(tcp) + len(payload)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, size, 0, 0, 64, 6, 0) + bytes(8)
    ethernet = bytes(6) + bytes.fromhex(source.replace(":", "")) + b"\x08\x00"
    data = ethernet + ip + tcp + payload
    return struct.pack("<IIII", 0, 0, len(data), len(data)) + data


def network_sink(folder: Path, content: bytes) -> Sink:
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    data += frame(CANARY, 0, source="52:54:00:00:00:99")  # not the guest's
    middle = len(content) // 2
    if content:
        data += frame(content[:middle], 1) * 2 + frame(content[middle:], 1 + middle)
    (folder / "pcap").write_bytes(data)
    return NetworkSink(capture=folder / "pcap", mac=MAC)


def disk_sink(folder: Path, content: bytes) -> Sink:
    path = folder / "disk"
    path.unlink(missing_ok=True)
    create_sparse_disk(path, 64 * 1024 * 1024)
    if content:
        with path.open("r+b") as image:
            image.seek(32 * 1024 * 1024 - 7)
            image.write(content)
    return DiskSink(images=(path,))


def error_record_sink(folder: Path, content: bytes) -> Sink:
    slots = (b"ERSTSTOR" + CANARY, b"", content, b"")  # the header is QEMU's
    (folder / "records").write_bytes(b"".join(slot.ljust(8192, b"\0") for slot in slots))
    return ErrorRecordSink(store=folder / "records")


MAKERS = [
    *(text_sink, panic_sink, variable_sink, error_record_sink),
    *(vsock_sink, network_sink, disk_sink),
]


@pytest.mark.parametrize("make", MAKERS)
def test_sink_without_guest_output_is_empty(
    tmp_path: Path, make: Callable[[Path, bytes], Sink]
) -> None:
    sink = make(tmp_path, b"")
    assert sink.bytes_seen() == 0
    assert find_canaries({"key": CANARY}, [sink]) == ()


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("make", MAKERS)
def test_canary_is_found_in_each_sink_and_encoding(
    tmp_path: Path, make: Callable[[Path, bytes], Sink], encoding: Encoding
) -> None:
    form = encode_canary(CANARY)[encoding]
    sink = make(tmp_path, b"[" + form + b"]")
    assert sink.bytes_seen() > 0
    found = {hit.encoding for hit in find_canaries({"key": CANARY}, [sink])}
    assert encoding in found


def test_disk_form_across_a_pieces_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * (4 * 1024 * 1024 - 5) + CANARY + b"x" * 100)
    assert find_canaries({"key": CANARY}, [DiskSink(images=(path,))]) != ()


def test_text_that_only_resembles_the_firmwares_is_kept(tmp_path: Path) -> None:
    (tmp_path / "serial").write_bytes(b"BdsDxE\r\n")
    sink = TextSink(name="serial", path=tmp_path / "serial", record=RECORD)
    assert sink.bytes_seen() == 8


def test_firmwares_own_variables_do_not_count_but_are_searched(tmp_path: Path) -> None:
    (tmp_path / "before").write_bytes(flash())
    (tmp_path / "after").write_bytes(flash(variable("BootOrder", CANARY)))
    key = f"BootOrder-{FIRMWARE_VENDOR}"
    record = FirmwareRecord(firmware="x", texts={}, variables=frozenset({key}))
    sink = VariableSink(before=tmp_path / "before", after=tmp_path / "after", record=record)
    assert sink.bytes_seen() == 0
    assert sink.changed_keys() == {key}
    assert find_canaries({"key": CANARY}, [sink]) != ()


def sinks_of(file: Path) -> tuple[Sink, ...]:
    return (
        TextSink(name="serial", path=file, record=RECORD),
        PanicSink(events=file),
        VariableSink(before=file, after=file, record=RECORD),
        ErrorRecordSink(store=file),
        VsockSink(capture=file),
        NetworkSink(capture=file, mac=MAC),
    )


def test_sinks_whose_files_were_never_made_are_empty(tmp_path: Path) -> None:
    sinks = (*sinks_of(tmp_path / "none"), DiskSink(images=()))
    assert set(report_bytes(sinks).values()) == {0}


@pytest.mark.parametrize("sink", sinks_of(Path("/", "n" * 256)), ids=lambda sink: sink.name)
def test_sink_whose_file_cannot_be_looked_at_is_not_an_empty_one(sink: Sink) -> None:
    with pytest.raises(OSError, match="File name too long"):
        sink.bytes_seen()
    with pytest.raises(OSError, match="File name too long"):
        list(sink.pieces())


def test_event_whose_line_was_cut_may_have_been_a_panic(tmp_path: Path) -> None:
    sink = panic_sink(tmp_path, b"")
    assert sink.bytes_seen() == 0
    with (tmp_path / "events").open("ab") as events:
        events.write(b'{"event": "GUEST_PANI')
    assert sink.bytes_seen() == 1
    assert list(sink.pieces()) == [b'{"event": "GUEST_PANI']


def test_flash_that_the_guest_left_in_no_order_is_the_guests(tmp_path: Path) -> None:
    (tmp_path / "before").write_bytes(flash())
    (tmp_path / "after").write_bytes(b"[" + CANARY + b"]")
    sink = VariableSink(before=tmp_path / "before", after=tmp_path / "after", record=RECORD)
    assert sink.bytes_seen() == len(CANARY) + 2
    assert find_canaries({"key": CANARY}, [sink]) != ()


def test_vsock_capture_that_was_given_up_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "vsock.incomplete").touch()
    with pytest.raises(FormatError) as error:
        VsockSink(capture=tmp_path / "vsock").bytes_seen()
    assert error.value.reason == "capture.incomplete"


def many_packets(folder: Path) -> Sink:
    with CaptureWriter(folder / "vsock") as capture:
        for _ in range(500):
            capture.write(1, Stream.GUEST_PAYLOAD, bytes(65536))
            capture.flush()
    return VsockSink(capture=folder / "vsock")


def many_frames(folder: Path) -> Sink:
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    (folder / "pcap").write_bytes(data + frame(bytes(60_000), 1) * 500)
    return NetworkSink(capture=folder / "pcap", mac=MAC)


@pytest.mark.parametrize(
    "make",
    [many_packets, many_frames, lambda folder: text_sink(folder, bytes(30 << 20))],
    ids=["vsock", "network", "serial"],
)
def test_counting_what_a_guest_wrote_takes_no_room_for_it(
    tmp_path: Path, make: Callable[[Path], Sink]
) -> None:
    sink = make(tmp_path)
    tracemalloc.start()
    try:
        assert sink.bytes_seen() >= 30_000_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20


def test_two_sinks_of_one_name_are_refused() -> None:
    sink = DiskSink(images=())
    assert report_bytes((sink,)) == {"disks": 0}
    with pytest.raises(FormatError) as error:
        report_bytes((sink, sink))
    assert error.value.reason == "sinks.twice"
