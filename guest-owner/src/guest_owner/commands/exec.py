"""`guest-owner exec`, `attach`, `cp`, `signal` and `rotate`: acting in a pod that runs.

They reach only containers that the measured manifest names in `[allow].exec` (`attach`: any), and
only with a certificate whose role is `exec` or more.
"""

import argparse
import os
import secrets
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ccinit.errors import DeadlineError, FormatError, LimitExceededError
from ccinit.formats.planes.owner_rpc import DEBUG_CONTAINER, MAX_COPY_BYTES, Stream, Value
from guest_owner.arguments import as_container
from guest_owner.plane.client import OwnerClient
from guest_owner.plane.endpoint import add_endpoint, connect
from guest_owner.plane.kbs_wait import ASK_SECONDS, announcing_wait
from guest_owner.plane.open_call import Sink, Streams
from guest_owner.plane.terminal import raw_terminal, require_terminal
from guest_owner.pod_names import check_names
from guest_owner.terminal_text import open_sink, write_through
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.termination import orderly_termination
from measured_boot.command_line.usage import UsageError, judging_words

_SIGNALLED = 128  # what shells add to the number of a signal
# Twice the cap on `limits.attest_seconds`: a rotation may wait for another.
_MAX_SECONDS = 2 * 86_400
_NOT_YET = "no file has changed yet"


def add_parser(subparsers: Subparsers) -> None:
    """Add the five commands."""
    parser = add_command(subparsers, "exec", "Run a program in a container; ends with its status.")
    parser.add_argument("-i", "--stdin", action="store_true", help="send standard input")
    parser.add_argument("-t", "--tty", action="store_true", help="run it on a terminal (with -i)")
    add_endpoint(parser)
    parser.add_argument(
        "container",
        type=_executor,
        metavar="CONTAINER",
        help="its name in pod.toml; @debug where debug is open",
    )
    parser.add_argument(
        "args",
        nargs=argparse.REMAINDER,
        metavar="PROGRAM …",
        help="absolute path of the program, and its arguments",
    )
    parser.set_defaults(func=_exec)

    summary = "Print what a container writes from now on, until it ends."
    parser = add_command(subparsers, "attach", summary)
    add_endpoint(parser)
    _add_container(parser)
    parser.set_defaults(func=_attach)

    summary = "Copy one file: CONTAINER:PATH FILE, or FILE CONTAINER:PATH."
    parser = add_command(subparsers, "cp", summary)
    add_endpoint(parser)
    parser.add_argument(
        "source", metavar="SOURCE", help="what to copy: CONTAINER:PATH, or a local file"
    )
    parser.add_argument(
        "target", metavar="TARGET", help="where to: a local file, or CONTAINER:PATH"
    )
    parser.set_defaults(func=_copy)

    parser = add_command(subparsers, "signal", "Send a signal to a container's first process.")
    add_endpoint(parser)
    _add_container(parser)
    parser.add_argument(
        "signal", type=_signal_number, metavar="SIGNAL", help="its name (TERM) or number"
    )
    parser.set_defaults(func=_signal)

    summary = "Make the guest replace its secret files with what the KBS holds now."
    parser = add_command(subparsers, "rotate", summary)
    add_endpoint(parser)
    parser.add_argument(
        "--seconds",
        type=whole_number(1, _MAX_SECONDS),
        default=ASK_SECONDS,
        metavar="N",
        help="how long to wait for the guest, which itself asks its KBS again and again for"
        f" limits.attest_seconds of ccinit.toml, or 600 (default: {ASK_SECONDS})",
    )
    parser.set_defaults(func=_rotate)


def _add_container(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "container", type=as_container, metavar="CONTAINER", help="its name in pod.toml"
    )


def _exec(arguments: argparse.Namespace) -> int:
    container, program = arguments.container, tuple(arguments.args)
    require_runnable(program, tty=arguments.tty)
    with connect(arguments) as client:
        return run_program(client, container, program, stdin=arguments.stdin, tty=arguments.tty)


def require_runnable(program: tuple[str, ...], *, tty: bool) -> None:
    """Refuse what the guest would, and a terminal that there is not, before anybody is asked.

    Raises:
        UsageError: `exec.args`.
        ConfigError: as `require_terminal`.
    """
    if not program:
        raise UsageError("exec.args", "say which program, by its absolute path")
    if not program[0].startswith("/"):
        found = f"found {program[0][:80]!r}"
        raise UsageError("exec.args", f"expected a program's absolute path, {found}")
    if tty:
        require_terminal()


def run_program(
    client: OwnerClient, container: str, program: tuple[str, ...], *, stdin: bool, tty: bool
) -> int:
    """Run a program on our own streams, or on our terminal; return its exit status."""
    if tty:
        return _exec_on_terminal(client, container, program)
    streams = Streams(
        sinks={Stream.OUTPUT: open_sink(sys.stdout), Stream.ERROR: open_sink(sys.stderr)},
        source=sys.stdin.fileno() if stdin else None,
    )
    return _status(client.stream("exec", container, program, False, 0, 0, streams=streams))  # noqa: FBT003


def _exec_on_terminal(client: OwnerClient, container: str, program: tuple[str, ...]) -> int:
    with orderly_termination(), raw_terminal() as window:
        streams = Streams(
            sinks={Stream.OUTPUT: write_through(sys.stdout.buffer)},
            source=sys.stdin.fileno(),
            events=window.take,
        )
        params = (container, program, True, window.rows, window.columns)
        return _status(client.stream("exec", *params, streams=streams))


def _attach(arguments: argparse.Namespace) -> int:
    streams = Streams(
        sinks={Stream.OUTPUT: open_sink(sys.stdout), Stream.ERROR: open_sink(sys.stderr)}
    )
    with connect(arguments) as client:
        client.stream("attach", arguments.container, streams=streams)
    return 0


def _copy(arguments: argparse.Namespace) -> int:
    match _in_container(arguments.source), _in_container(arguments.target):
        case (container, path), None:
            with _replacing(Path(arguments.target)) as file, connect(arguments) as client:
                streams = Streams(sinks={Stream.OUTPUT: _capped(write_through(file))})
                client.stream("copy", container, path, False, 0, streams=streams)  # noqa: FBT003
        case None, (container, path):
            with Path(arguments.source).open("rb") as file, connect(arguments) as client:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                streams = Streams(source=file.fileno())
                client.stream("copy", container, path, True, mode, streams=streams)  # noqa: FBT003
        case _:
            detail = "expected CONTAINER:PATH and a local file, in either order"
            raise UsageError("cp.form", detail)
    return 0


def _capped(sink: Sink) -> Sink:
    """Enforce the size cap that honest guests respect: others could fill the owner's disk."""
    came = 0

    def take(content: bytes) -> None:
        nonlocal came
        came += len(content)
        if came > MAX_COPY_BYTES:
            raise LimitExceededError("owner.copy_size", f"more than {MAX_COPY_BYTES} bytes come")
        sink(content)

    return take


def _in_container(place: str) -> tuple[str, str] | None:
    """Return container and path of `CONTAINER:PATH`; as with scp, `./a:b` is a local file."""
    container, colon, path = place.partition(":")
    if not colon or "/" in container:
        return None
    with judging_words():
        check_names("owner", container=container)
    return container, path


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` only once the block has succeeded.

    Anything but a regular file (a pipe, /dev/stdout) is written to directly.

    Raises:
        OSError: names the file, whichever step failed.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
        else:
            with _beside(path.resolve()) as file:  # so that a link is not replaced by a file
                yield file
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _beside(target: Path) -> Iterator[BinaryIO]:
    new = target.with_name(f".new-{secrets.token_hex(8)}")
    with new.open("xb") as file:
        try:
            if target.exists():
                new.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def _signal(arguments: argparse.Namespace) -> int:
    with connect(arguments) as client:
        client.call("signal", arguments.container, arguments.signal)
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    with connect(arguments) as client, announcing_wait(_NOT_YET):
        try:
            (files,) = client.call("rotate", seconds=arguments.seconds)
        except DeadlineError as error:  # ours: the guest's is a CallRefusedError
            detail = f"{error.detail}; if the guest is there, it may still rotate"
            raise DeadlineError(error.reason, detail) from error
    print(f"{files!r} secret files have changed")
    return 0


def _executor(text: str) -> str:
    return text if text == DEBUG_CONTAINER else as_container(text)


def _signal_number(text: str) -> int:
    if text in map(str, range(1, signal.NSIG)):
        return int(text)
    try:
        return signal.Signals["SIG" + text.upper().removeprefix("SIG")]
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"expected a signal's name or number, found {text!r:.40}"
        ) from None


def _status(result: tuple[Value, ...]) -> int:
    code, number = result
    if not isinstance(code, int) or not isinstance(number, int):
        raise TypeError("the schema says integers")
    if number >= _SIGNALLED:  # the shell would see another status, perhaps that of success
        raise FormatError("owner.result", f"there is no signal {number}")
    return _SIGNALLED + number if number else code
