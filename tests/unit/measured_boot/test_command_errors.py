"""Whatever a command fails with becomes one line that says what and why."""

import pytest

from ccinit.errors import KernelError, PeerError
from measured_boot.command_errors import describe_error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PeerError("kbs.refused", "it said no"), "it said no [kbs.refused]"),
        (KernelError(13, "open", "/dev/x"), "/dev/x: errno 13 [kernel.open]"),
        (FileNotFoundError(2, "No such file", "guest.log"), "guest.log: No such file"),
        (FileNotFoundError(2, "No such file", b"guest.log"), "guest.log: No such file"),
        (OSError("no room"), "no room"),
    ],
)
def test_failure_is_one_line(error: PeerError | OSError, line: str) -> None:
    assert describe_error(error) == line
