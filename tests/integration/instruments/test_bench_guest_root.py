"""Programs that are started ahead: when they may go on, and that a failed one is not a result."""

import sys

import pytest

from tests.bench.guest_root import start_ready
from tests.bench.measurement import BenchError

PROGRAM = "import sys; {before}; print('ready', flush=True); sys.stdin.readline(); {after}"


def command(*, before: str = "pass", after: str = "print(7, flush=True)") -> tuple[str, ...]:
    return (sys.executable, "-c", PROGRAM.format(before=before, after=after))


def test_a_program_waits_until_it_may_go_on() -> None:
    with start_ready(command()) as program:
        assert program.process.poll() is None
        assert program.go() == "7\n"


def test_a_program_that_fails_before_it_is_ready() -> None:
    with (
        pytest.raises(BenchError, match="no such registry"),
        start_ready(command(before="sys.exit('no such registry')")),
    ):
        pytest.fail("it was not ready")


def test_a_program_that_ends_before_it_is_ready() -> None:
    with (
        pytest.raises(BenchError, match="before it was ready"),
        start_ready(command(before="sys.exit(0)")),
    ):
        pytest.fail("it was not ready")


def test_a_program_that_fails_after_it_may_go_on() -> None:
    with (
        pytest.raises(BenchError, match="no room"),
        start_ready(command(after="sys.exit('no room')")) as program,
    ):
        assert program.go() == ""


def test_a_program_that_fails_at_its_end_has_no_result() -> None:
    with (
        pytest.raises(BenchError, match="not unmounted"),
        start_ready(command(after="print(7, flush=True); sys.exit('not unmounted')")) as it,
    ):
        assert it.go() == "7\n"
