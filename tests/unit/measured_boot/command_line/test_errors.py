"""Whatever a command fails with becomes one line that says what and why."""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import KernelError, PeerError
from measured_boot.command_line.errors import describe_error, run_command
from measured_boot.command_line.usage import UsageError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PeerError("kbs.refused", "it said no"), "it said no [kbs.refused]"),
        (KernelError(13, "open", "/dev/x"), "/dev/x: errno 13 (EACCES) [kernel.open]"),
        (FileNotFoundError(2, "No such file", "guest.log"), "guest.log: No such file"),
        (FileNotFoundError(2, "No such file", b"guest.log"), "guest.log: No such file"),
        (OSError("no room"), "no room"),
        (
            PeerError("kbs.status", "it says \x1b]0;é\x9b2J\x07"),
            r"it says \x1b]0;é\x9b2J\x07 [kbs.status]",
        ),
        (FileNotFoundError(2, "No such file", "\x1b[2J\udcff"), r"\x1b[2J\udcff: No such file"),
        (
            PeerError("process.failed", "one\nguest-owner: two\r\u2028three"),
            "one\n  guest-owner: two\\r\\u2028three [process.failed]",
        ),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    ],
)
def test_failure_is_one_message(error: PeerError | OSError, line: str) -> None:
    assert describe_error(error) == line


def fail(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (PeerError("kbs.refused", "it said no"), 1, "tool: it said no [kbs.refused]\n"),
        (OSError("no room"), 1, "tool: no room\n"),
        (BrokenPipeError(32, "Broken pipe", "standard output"), 1, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, "tool: Broken pipe\n"),
        (UsageError("cp.form", "expected a place"), 2, "tool: expected a place [cp.form]\n"),
        (MemoryError(), 1, "tool: not enough memory\n"),
        (KeyboardInterrupt(), 130, "tool: interrupted\n"),
    ],
)
def test_command_that_fails_has_a_status_and_a_line(
    error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("tool", lambda: 7) == 7
    assert run_command("tool", lambda: fail(error)) == status
    assert capsys.readouterr().err == words


@contextmanager
def full_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let standard output have no room."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        yield
        sys.stdout.flush()  # what was given up: else the stream tries it once more when it goes


def test_output_that_finds_no_room_is_a_failure_and_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_output(monkeypatch):
        assert run_command("tool", lambda: print("much") or 0) == 1
    assert capsys.readouterr().err == "tool: standard output: No space left on device\n"


def print_help() -> int:
    argparse.ArgumentParser(prog="tool").parse_args(["--help"])
    return 7


def print_much() -> int:
    print("much" * io.DEFAULT_BUFFER_SIZE)
    return 0


def test_links_in_a_circle_are_told_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "circle"
    path.symlink_to(path)
    assert run_command("tool", lambda: fail(OSError(str(path.resolve(strict=True))))) == 1
    assert capsys.readouterr().err == f"tool: {path}: Too many levels of symbolic links\n"


def test_mistake_of_ours_is_none_of_the_input() -> None:
    with pytest.raises(RuntimeError, match="mistake"):
        run_command("tool", lambda: fail(RuntimeError("mistake")))


@pytest.mark.parametrize("command", [print_help, print_much])
def test_help_and_more_than_a_buffer_find_no_room_either(
    command: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_output(monkeypatch):
        assert run_command("tool", command) == 1
    assert capsys.readouterr().err == "tool: standard output: No space left on device\n"


def test_help_that_gets_where_it_should_ends_as_the_parser_says() -> None:
    with pytest.raises(SystemExit) as ended:
        run_command("tool", print_help)
    assert ended.value.code == 0


def test_failure_beside_full_output_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        sys.stdout.writelines(["lost"])
        raise ConnectionRefusedError(111, "Connection refused")

    with full_output(monkeypatch):
        assert run_command("tool", command) == 1
    assert capsys.readouterr().err == "tool: Connection refused\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_text_that_the_terminal_lacks_is_escaped(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    with io.TextIOWrapper(printed, encoding, errors="strict") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run_command("tool", lambda: print("name-\udcff") or 0) == 0
        assert printed.getvalue() == b"name-\\udcff\n"


def test_stream_that_was_closed_before_is_a_null_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> int:
        sys.stdout.writelines(["lost\n"])
        return len(sys.stdin.buffer.read())

    with monkeypatch.context() as patch:
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, None)
        try:
            assert run_command("tool", command) == 0
        finally:
            for stream in (sys.stdin, sys.stdout, sys.stderr):
                stream.close()
