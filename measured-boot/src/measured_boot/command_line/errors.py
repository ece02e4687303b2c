"""How a command ends, and what it says when it fails: one form for all of our commands.

As in `host-runtime: /g/vsock: no socket of a guest: is it booted? [vsock.refused]`.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from ccinit.errors import CcinitError
from measured_boot.command_line.start import INTERRUPTED
from measured_boot.command_line.usage import UsageError

EXIT_STATUS: Final = (
    "Exit status: 0 done, and nothing differs; 1 failed, or something does;"
    " 2 wrong usage; 130 interrupted."
)
_OUTPUT: Final = "standard output"
_WRONG_USAGE: Final = 2  # argparse's


def describe_error(error: CcinitError | OSError) -> str:
    """Return what failed and why, followed by the reason to search for, if there is one.

    It may quote text of others, so everything that a terminal would act on is escaped. Line breaks
    are kept, but what follows one is indented: no such text can pass for a message of its own.
    """
    if isinstance(error, CcinitError):
        text = f"{error.detail} [{error.reason}]"
    elif error.filename is None:
        text = error.strerror or str(error)
    else:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character == "\n":
        return "\n  "
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def run_command(program: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit status; if it fails, say why on standard error.

    The status is not 0 either if output could not be written; only a reader that goes away
    (`| head`) needs no message. A standard stream that was closed when we started becomes
    /dev/null. Characters that a terminal's encoding lacks, as in a file's name, are escaped.

    Raises:
        SystemExit: of the command's parser, once the help that it printed has been written.
    """
    _name_output()
    _open_missing_streams()
    _print_anything()
    try:
        try:
            status = command()
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except BrokenPipeError as error:
        status = 1
        if error.filename != _OUTPUT:  # a peer that went away, of whom nobody has told yet
            with contextlib.suppress(OSError):  # or standard error itself
                print(f"{program}: {describe_error(error)}", file=sys.stderr)
    except (CcinitError, OSError) as error:
        print(f"{program}: {describe_error(error)}", file=sys.stderr)
        status = _WRONG_USAGE if isinstance(error, UsageError) else 1
    except RuntimeError as error:  # of `Path.resolve`, for a circle of links, before Python 3.13
        if not isinstance(error.__context__, OSError):
            raise
        print(f"{program}: {describe_error(error.__context__)}", file=sys.stderr)
        status = 1
    except MemoryError:
        print(f"{program}: not enough memory", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        status = INTERRUPTED
    else:
        return status
    _give_up_output()
    return status


def tell(program: str, text: str) -> None:
    """Report a program's progress on standard error; a reader that is gone does not end it."""
    try:
        print(f"{program}: {text}", file=sys.stderr, flush=True)
    except OSError:  # and Python's last attempt to write must not change the exit status
        _redirect_to_null(sys.stderr)


def _open_missing_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - for good


def _name_output() -> None:
    """Make a failed write to standard output say what failed, whoever prints and however much."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and isinstance(
        stream.buffer, io.BufferedWriter | io.FileIO
    ):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_StandardOutput(stream.fileno(), "wb", closefd=False)),
            encoding=stream.encoding,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


class _StandardOutput(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, _OUTPUT) from error


def _print_anything() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up_output() -> None:
    """Write what is left; if that fails, prevent another try when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        _redirect_to_null(sys.stdout)


def _redirect_to_null(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, stream.fileno())
    os.close(null)
