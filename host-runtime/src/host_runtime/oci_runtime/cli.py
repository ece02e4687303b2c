"""The command `ccinit-runtime`, as engines call an OCI runtime.

The runtime-spec names the operations; options and their places are those of runc and crun, which
conmon, podman and containerd's shim pass on.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Never

from ccinit.errors import CcinitError, ConfigError, FormatError, LimitExceededError
from host_runtime.oci_runtime.bundle import MAX_CONFIG_BYTES as MAX_BUNDLE_BYTES
from host_runtime.oci_runtime.bundle import SPEC_VERSION
from host_runtime.oci_runtime.container_store import ContainerStore
from host_runtime.oci_runtime.lifecycle import Runtime
from host_runtime.oci_runtime.opened_file import read_regular
from host_runtime.oci_runtime.operator_config import (
    DEFAULT_PATH,
    MAX_CONFIG_BYTES,
    OperatorConfig,
    parse_operator_config,
)
from host_runtime.oci_runtime.signals import parse_signal
from measured_boot.command_line.errors import describe_error, run_command
from measured_boot.command_line.subcommands import Subparsers, VersionAction, add_commands

PROGRAM: Final = "ccinit-runtime"
_DISTRIBUTION: Final = "ccinit-host-runtime"
_RUN: Final = "/run"
_NOT_FOR_OTHERS: Final = 0o022  # umask: whatever the engine's, others may not write to our folders

_PAUSE: Final = "it would cut the host's connections to the guest, and stop the guest's clock"
_NO_COPY: Final = "a guest's memory cannot be saved: only the guest has its keys"
REFUSED: Final[Mapping[str, str]] = {
    "exec": "the host has no way to run commands in a guest; its owner has `guest-owner exec`",
    "update": "a guest's resources are fixed when it boots",
    "pause": _PAUSE,
    "resume": _PAUSE,
    "events": "the host learns no statistics of containers",
    "checkpoint": _NO_COPY,
    "restore": _NO_COPY,
    "run": "engines call `create` and `start`; by hand, `host-runtime boot` stays until the end",
    "list": "an engine knows its containers; `state` prints the state of one",
    "spec": "the engine makes the bundle; the measured document has the guest's pod",
    "features": "no feature of Linux containers has an effect",
}
"""Commands of other runtimes, and why there is nothing like them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    return run_command(PROGRAM, lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    os.umask(os.umask(_NOT_FOR_OTHERS) | _NOT_FOR_OTHERS)
    options = _parse(arguments)
    func: Callable[[argparse.Namespace, Runtime], None] = options.func
    try:
        func(options, Runtime(store=ContainerStore(root=options.root.absolute())))
    except (CcinitError, OSError) as error:
        _log(options, describe_error(error))
        raise
    return 0


def _create(options: argparse.Namespace, runtime: Runtime) -> None:
    config = _read_operator_config(options.config)
    if options.console_socket is not None:
        raise ConfigError("bundle.terminal", "a guest has no terminal for --console-socket")
    if options.preserve_fds:
        raise ConfigError("bundle.descriptors", "no file of this host gets into a guest")
    runtime.create(options.id, options.bundle, config, pid_file=options.pid_file)


def _start(options: argparse.Namespace, runtime: Runtime) -> None:
    runtime.start(options.id)


def _state(options: argparse.Namespace, runtime: Runtime) -> None:
    print(runtime.state(options.id))


def _kill(options: argparse.Namespace, runtime: Runtime) -> None:
    runtime.kill(options.id, options.signal, is_for_all=options.all)


def _ps(options: argparse.Namespace, runtime: Runtime) -> None:
    """Print the host's processes that are the container; those in the guest are unknown."""
    found = runtime.processes(options.id)
    if options.format == "json":
        print(json.dumps(found))
    else:
        print("\n".join(("PID", *(str(pid) for pid in found))))


def _delete(options: argparse.Namespace, runtime: Runtime) -> None:
    runtime.delete(options.id, is_forced=options.force)


def _update(options: argparse.Namespace, runtime: Runtime) -> None:
    """Accept an update that changes nothing: Docker and podman make one for a restart policy."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-r", "--resources", type=Path)
    parser.add_argument("id", nargs="?")
    try:
        known, others = parser.parse_known_args(options.words)
    except argparse.ArgumentError:
        _refuse(options, runtime)
    if others or None in (known.id, known.resources):
        _refuse(options, runtime)
    if runtime.is_changed_by(known.id, _read_resources(known.resources)):
        _refuse(options, runtime)


def _read_resources(path: Path) -> bytes:
    if path == Path("-"):
        return sys.stdin.buffer.read(MAX_BUNDLE_BYTES + 1)
    return read_regular(path, MAX_BUNDLE_BYTES, "bundle.file")


def _refuse(options: argparse.Namespace, _runtime: Runtime) -> Never:
    raise ConfigError("command.refused", f"{options.name}: {REFUSED[options.name]}")


def _read_operator_config(path: Path) -> OperatorConfig:
    """Read the operator's file; every error in it begins with its name."""
    try:
        document = read_regular(path, MAX_CONFIG_BYTES, "runtime.file")
    except FileNotFoundError as error:
        detail = f"{path} does not exist: docs/oci-runtime.md has one; --config names another"
        raise ConfigError("runtime.missing", detail) from error
    if len(document) > MAX_CONFIG_BYTES:
        raise LimitExceededError("file.length", f"{path}: more than {MAX_CONFIG_BYTES} bytes")
    try:
        return parse_operator_config(document)
    except (ConfigError, FormatError) as error:
        raise type(error)(error.reason, f"{path}: {error.detail}") from error


def _log(options: argparse.Namespace, text: str) -> None:
    """Log an error where the engine looks for it, if it named a file: one JSON object, one line."""
    if options.log is None:
        return
    now = datetime.now(UTC).isoformat()
    line = f"{now} error: {text}"
    if options.log_format == "json":
        line = json.dumps({"level": "error", "msg": text, "time": now})
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with suppress(OSError):  # the text is on standard error, too
        # Without waiting, in case it is a pipe that nobody reads.
        descriptor = os.open(options.log, flags | os.O_NONBLOCK, 0o666)
        with os.fdopen(descriptor, "a") as file:
            file.write(f"{line}\n")


def _signal(text: str) -> int:
    try:
        return parse_signal(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _default_root() -> Path:
    """Return a folder that is writable: `/run` is not for the root of a user namespace."""
    of_user = None if os.access(_RUN, os.W_OK) else os.environ.get("XDG_RUNTIME_DIR")
    return Path(of_user or _RUN) / PROGRAM


class _UsageError(Exception):
    """The command line has something that we do not know, perhaps from a newer engine."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        raise _UsageError(self, message)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; its errors go to the engine's log, too."""
    try:
        return _parser().parse_args(arguments)
    except _UsageError as error:
        with suppress(argparse.ArgumentError):  # not even the option for the log can be read
            _log(_log_parser().parse_known_args(arguments)[0], str(error))
        argparse.ArgumentParser.error(error.parser, str(error))


def _log_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--log", type=Path, metavar="FILE", help="also write errors to this file")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="format of the file of --log"
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Run the measured pod of an initdata document as an OCI container.",
        epilog="docs/oci-runtime.md says what of a bundle has an effect.",
        allow_abbrev=False,
        parents=(_log_parser(),),
    )
    add = parser.add_argument
    add(
        "--config", type=Path, default=DEFAULT_PATH, metavar="FILE", help=f"default: {DEFAULT_PATH}"
    )
    add("--root", type=Path, default=_default_root(), metavar="FOLDER",
        help="folder of the containers' state")  # fmt: skip
    add("-v", "--version", action=VersionAction, say=_tell_version, distribution=_DISTRIBUTION)
    for option in ("--debug", "--systemd-cgroup"):
        add(option, action="store_true", help="accepted, but has no effect")
    for option in ("--cgroup-manager", "--rootless", "--criu", "--log-level"):
        add(option, help="accepted, but has no effect")
    commands = add_commands(parser)
    _add_create(_add(commands, "create", "Boot the guest that a bundle asks for.", _create))
    _add(commands, "start", "Let its pod start.", _start)
    _add(commands, "state", "Print a container's state.", _state)
    kill = _add(commands, "kill", "Ask a guest to stop (TERM), or end it (KILL).", _kill)
    kill.add_argument(
        "signal",
        nargs="?",
        metavar="SIGNAL",
        type=_signal,
        default=signal.SIGTERM,
        help="name or number (default: TERM)",
    )
    kill.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="with KILL: no error if the container has already ended",
    )
    ps = _add(
        commands,
        "ps",
        "Print the host process of a guest; processes within the guest are not known.",
        _ps,
    )
    ps.add_argument(
        "-f", "--format", choices=("table", "json"), default="table", help="default: table"
    )
    delete = _add(commands, "delete", "Remove a container that has ended.", _delete)
    delete.add_argument(
        "-f", "--force", action="store_true", help="kill it first, if it still runs"
    )
    for name, reason in REFUSED.items():
        # With another prefix, whatever stands behind the name is read and not judged.
        refused = commands.add_parser(
            name, help=f"refused: {reason}", prefix_chars="\0", add_help=False
        )
        refused.add_argument("words", nargs="*", metavar="WORD", help="accepted, but not read")
        refused.set_defaults(func=_update if name == "update" else _refuse, name=name)
    return parser


def _add(
    commands: Subparsers,
    name: str,
    purpose: str,
    func: Callable[[argparse.Namespace, Runtime], None],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
    parser.add_argument("id", metavar="ID", help="of the container")
    parser.set_defaults(func=func)
    return parser


def _add_create(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-b", "--bundle", type=Path, default=Path(), metavar="FOLDER",
        help="default: the working directory")  # fmt: skip
    add("--pid-file", type=Path, metavar="FILE",
        help="file for the id of the process that is the guest's life")  # fmt: skip
    add("--console-socket", type=Path, metavar="SOCKET", help="refused: a guest has no terminal")
    for option in ("--no-pivot", "--no-new-keyring"):
        add(option, action="store_true", help="accepted, but has no effect")
    add("--preserve-fds", type=int, metavar="N", help="refused, unless 0")


def _tell_version(number: str) -> str:
    return f"{PROGRAM} version {number}\nspec: {SPEC_VERSION}"
