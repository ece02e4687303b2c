"""The entry point of the console script `ccinit-runtime`, and nothing else."""

from collections.abc import Callable

from measured_boot.command_line.start import start


def main() -> int:
    """Run one command and return its exit status; see `host_runtime.oci_runtime.cli`."""
    return start("ccinit-runtime", _load)


def _load() -> Callable[[], int]:
    from host_runtime.oci_runtime.cli import (  # noqa: PLC0415 - see `host_runtime.entry`
        main as run,
    )

    return run
