"""The entry point of the console script `rootfs-builder`, and nothing else."""

from collections.abc import Callable

from measured_boot.command_line.start import start


def main() -> int:
    """Run one command and return its exit status; see `rootfs_builder.cli`."""
    return start("rootfs-builder", _load)


def _load() -> Callable[[], int]:
    from rootfs_builder.cli import main as run  # noqa: PLC0415 - an interrupt meanwhile is no traceback

    return run
