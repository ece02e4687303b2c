"""The entry point of the console script `measured-boot`, and nothing else."""

from collections.abc import Callable

from measured_boot.command_line.start import start


def main() -> int:
    """Run one command and return its exit status; see `measured_boot.cli`."""
    return start("measured-boot", _load)


def _load() -> Callable[[], int]:
    from measured_boot.cli import main as run  # noqa: PLC0415 - an interrupt meanwhile is no traceback

    return run
