"""What is told of a QEMU that does not start, or gives up at the first moment of its guest."""

from pathlib import Path
from typing import Any, Never, cast

import pytest

from ccinit.errors import ChildError, PeerError
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.launch.launcher import explained_by_tpm, let_run

REFUSED = "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'"


class FakeQemu:
    """Both the process and its QMP connection: `cont` is never answered."""

    def __init__(self, *, has_ended: bool) -> None:
        self._has_ended = has_ended

    def execute(self, command: str) -> Never:
        raise PeerError("qmp.closed", f"QEMU ended before it answered {command}")

    def wait(self, _seconds: float) -> int:
        return 1

    def require_running(self) -> None:
        if self._has_ended:
            raise ChildError("process.ended", f"QEMU ended with 1: {REFUSED}")


def start(*, has_ended: bool) -> None:
    qemu = cast("Any", FakeQemu(has_ended=has_ended))
    let_run(qemu, qemu)


def test_launch_that_the_secure_processor_refuses_is_told_in_qemus_words() -> None:
    with pytest.raises(ChildError, match="Bad measurement") as caught:
        start(has_ended=True)
    assert caught.value.reason == "process.ended"


def test_qemu_that_is_silent_but_there_is_told_as_that() -> None:
    with pytest.raises(PeerError, match="answered cont") as caught:
        start(has_ended=False)
    assert caught.value.reason == "qmp.closed"


def refuse_to_start(folder: Path, complaint: str, swtpm: str) -> str:
    """Return what is told of a QEMU that ends with `complaint` while swtpm has its own to say."""
    files = GuestFiles(folder=folder)
    files.log("swtpm").write_text(swtpm)
    error = ChildError("process.ended", f"QEMU ended with 1: {complaint}")
    with pytest.raises(ChildError) as caught, explained_by_tpm(files):
        raise error
    assert caught.value.reason == "process.ended"
    return caught.value.detail


def test_qemu_that_cannot_start_its_vtpm_is_told_with_swtpms_words(tmp_path: Path) -> None:
    complaint = "tpm-emulator: TPM result for CMD_INIT: 0x9 operation failed"
    told = refuse_to_start(tmp_path, complaint, "Could not initialize the TPM")
    assert told == f"QEMU ended with 1: {complaint}; swtpm: Could not initialize the TPM"


def test_qemu_that_ends_for_something_else_does_not_point_to_its_vtpm(tmp_path: Path) -> None:
    complaint = "initrd is too large, cannot support."
    told = refuse_to_start(tmp_path, complaint, "swtpm: Data client disconnected")
    assert told == f"QEMU ended with 1: {complaint}"
