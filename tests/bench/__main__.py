"""`python -m tests.bench`: measure every row, then write report, chart and table.

Ends with 1 only if something could not be measured; a missed goal is a result.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ccinit.errors import CcinitError
from host_runtime.machine.accelerator import choose_accelerator
from host_runtime.programs.tools import Tools
from rootfs_builder.tools_tree import ToolsTree
from tests.bench.chart import encode_chart
from tests.bench.measurement import Bench, BenchError, Row, describe_machine
from tests.bench.report import encode_report, table_lines
from tests.bench.rows import (
    attest,
    boot,
    memory,
    pid1,
    plane,
    pull,
    seal,
    size,
    stages,
    storage,
)

# One line for each module of tests/bench/rows, quick ones first.
GROUPS: Mapping[str, Callable[[Bench], Sequence[Row]]] = {
    "size": size.measure,
    "pid1": pid1.measure,
    "seal": seal.measure,
    "attest": attest.measure,
    "storage": storage.measure,
    "memory": memory.measure,
    "stages": stages.measure,
    "pull": pull.measure,
    "plane": plane.measure,
    "boot": boot.measure,
}
TREE = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
OUTPUT = Path("build/bench")
IMAGES = Path("build/image")
FAILURES = (
    *(AssertionError, BenchError, CcinitError, OSError, subprocess.SubprocessError),
    *(LookupError, ValueError),  # what a side has printed is not what a row reads
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return the exit status."""
    options = parse_options(arguments)
    if os.geteuid() != 0:
        print("bench: needs root, for mounts and chroot", file=sys.stderr)
        return 1
    # Clean up on a signal as at any other end: stop what was started, remove what was made.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    names = options.only or [*GROUPS]
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"bench: [{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True)

    try:
        machine = {**describe_machine(), "accelerator": choose_accelerator(Tools(tree=TREE)).value}
        if not options.keep_image:
            _build_image(say)
    except FAILURES as error:
        print(f"bench: not measured: {error}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    failures: list[str] = []
    for name in names:
        try:
            rows += _measure(name, options.runs, say)
        except FAILURES as error:
            failures.append(f"bench: {name} was not measured: {type(error).__name__}: {error}")
            say(failures[-1])
    _publish(machine, rows, is_whole=set(names) == set(GROUPS) and not failures)
    print("\n".join([f"{time.monotonic() - began:.0f} s", *failures]))
    return 1 if failures else 0


def _publish(machine: Mapping[str, object], rows: Sequence[Row], *, is_whole: bool) -> None:
    """Print the table and write the files; some rows alone leave a whole run's report alone."""
    print("\n".join(table_lines(rows)))
    folder = OUTPUT if is_whole else OUTPUT / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(encode_report(machine, rows))
    (folder / "chart.svg").write_text(encode_chart(rows))
    print(f"{folder}/report.json, {folder}/chart.svg")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description="Ratios against other tools.")
    parser.add_argument(
        "--only", action="append", choices=[*GROUPS], help="these rows, as a trial; repeatable"
    )
    parser.add_argument(
        "--runs", type=_positive, help="rounds of every row (default: its own number)"
    )
    parser.add_argument(
        "--keep-image", action="store_true", help="take build/image as it is, without a build"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one round")
    return number


def _build_image(say: Callable[[str], None]) -> None:
    say("bringing build/image up to date")
    command = Path(sys.executable).parent / "rootfs-builder"
    subprocess.run((command, "image"), check=True, stdout=subprocess.DEVNULL)


def _measure(name: str, runs: int | None, say: Callable[[str], None]) -> Sequence[Row]:
    def say_of_group(text: str) -> None:
        say(f"{name}: {text}")

    work, cache = (OUTPUT / "work").absolute(), (OUTPUT / "cache").absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    cache.mkdir(exist_ok=True)
    bench = Bench(
        tools=ToolsTree(TREE),
        images=IMAGES,
        work=work,
        cache=cache,
        runs=runs,
        say=say_of_group,
    )
    try:
        return GROUPS[name](bench)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
