"""The entry point of the console script `host-runtime`, and nothing else."""

from collections.abc import Callable

from measured_boot.command_line.start import start


def main() -> int:
    """Run one command and return its exit status; see `host_runtime.cli`."""
    return start("host-runtime", _load)


def _load() -> Callable[[], int]:
    from host_runtime.cli import main as run  # noqa: PLC0415 - an interrupt meanwhile is no traceback

    return run
