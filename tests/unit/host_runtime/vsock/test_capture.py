from pathlib import Path

import pytest

from ccinit.errors import FormatError
from host_runtime.vsock.capture import CaptureWriter, Stream, read_capture


def test_streams_are_put_together_across_other_records(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "capture") as capture:
        capture.write(1, Stream.GUEST_PAYLOAD, b"one ")
        capture.write(2, Stream.GUEST_PAYLOAD, b"other")
        capture.write(1, Stream.HOST_PAYLOAD, b"answer")
        capture.write(1, Stream.GUEST_PAYLOAD, b"stream")
    assert read_capture(tmp_path / "capture") == {
        (1, Stream.GUEST_PAYLOAD): b"one stream",
        (2, Stream.GUEST_PAYLOAD): b"other",
        (1, Stream.HOST_PAYLOAD): b"answer",
    }


def test_flushed_records_are_there_although_the_writer_still_runs(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "capture") as capture:
        capture.write(1, Stream.GUEST_HEADER, b"x")
        capture.flush()
        assert read_capture(tmp_path / "capture") == {(1, Stream.GUEST_HEADER): b"x"}


def test_cut_record_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "capture") as capture:
        capture.write(1, Stream.GUEST_PAYLOAD, b"whole")
    (tmp_path / "cut").write_bytes((tmp_path / "capture").read_bytes()[:-2])
    assert read_capture(tmp_path / "cut") == {(1, Stream.GUEST_PAYLOAD): b"who"}


def test_capture_without_room_ends_and_is_called_incomplete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "capture"
    path.symlink_to("/dev/full")  # the link is renamed, not the device
    with CaptureWriter(path) as capture:
        capture.write(1, Stream.GUEST_PAYLOAD, b"x")
        capture.flush()
        capture.write(1, Stream.GUEST_PAYLOAD, b"y")
        capture.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "the capture ends here: No space left on device"
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["capture.incomplete"]
    with pytest.raises(FormatError) as error:
        read_capture(path)
    assert error.value.reason == "capture.incomplete"
    assert Path("/dev/full").is_char_device()


def test_writer_without_a_path_records_nothing() -> None:
    with CaptureWriter(None) as capture:
        capture.write(1, Stream.GUEST_PAYLOAD, b"x")
        capture.flush()


def test_bytes_that_are_no_capture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"\0\0\0\0\7\0\0\0\0")
    with pytest.raises(FormatError) as error:
        read_capture(path)
    assert error.value.reason == "capture.stream"
