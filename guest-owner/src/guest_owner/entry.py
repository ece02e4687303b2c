"""The entry point of the console script `guest-owner`, and nothing else."""

from collections.abc import Callable

from measured_boot.command_line.start import start


def main() -> int:
    """Run one command and return its exit status; see `guest_owner.cli`."""
    return start("guest-owner", _load)


def _load() -> Callable[[], int]:
    from guest_owner.cli import main as run  # noqa: PLC0415 - an interrupt meanwhile is no traceback

    return run
