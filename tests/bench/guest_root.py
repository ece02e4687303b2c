"""The guest's own root on this machine: same interpreter, same modules, same wheels, no guest.

The published root is extracted, not mounted, so that nothing has to be unmounted; its programs run
by chroot. A program of ours replaces `ccinit`'s `__main__`, in a folder of its own that shares
everything else. It is started exactly as PID 1 is, from bytecode, so that the compiler's time and
memory do not count.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from tests.bench.measurement import Bench, BenchError

INTERPRETER = ("/usr/bin/python3.13", "-I", "-S", "-B")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_SITE = "usr/lib/ccinit"
_PROGRAMS = "usr/lib/bench"
_SOURCES = Path(__file__).with_name("guest_programs")
_MAIN = "__main__.pyc"
_SOURCE = "source"
# Flag 1 of PEP 552: a hash that nobody compares, as all bytecode of the root has it.
_COMPILE = """
import marshal, sys
from importlib.util import MAGIC_NUMBER
source, compiled = sys.argv[1:]
with open(source, "rb") as file:
    code = compile(file.read(), source, "exec")
with open(compiled, "wb") as file:
    file.write(MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(code))
"""
_COMMAND_SECONDS = 600
# A namespace of its own takes every mount away with the process.
_ENTER = """
root=$1 store=$2; shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$store" "$root/tmp"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class GuestRoot:
    """An extracted root."""

    path: Path

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Return the command that runs the guest's interpreter, with no mounts."""
        return ("chroot", str(self.path), *INTERPRETER, *arguments)

    def command_with_store(self, store: Path, *arguments: str) -> tuple[str, ...]:
        """Return the command that runs it with /dev, /proc, and `store` at /tmp."""
        return (
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-euc", _ENTER, "guest-root", str(self.path), str(store)),
            *(*INTERPRETER, *arguments),
        )

    def add_program(self, name: str) -> str:
        """Install the program `guest_programs/NAME.py`; return its path inside."""
        folder = self.path / _PROGRAMS / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for entry in (self.path / _SITE).iterdir():
            if entry.name != _MAIN:
                (folder / entry.name).symlink_to(f"../../ccinit/{entry.name}")
        shutil.copyfile(_SOURCES / f"{name}.py", folder / _SOURCE)
        inside = f"/{_PROGRAMS}/{name}"
        run(self.command("-c", _COMPILE, f"{inside}/{_SOURCE}", f"{inside}/{_MAIN}"))
        return inside


def open_guest_root(bench: Bench) -> GuestRoot:
    """Return the root of the published production image, extracted unless it is already.

    Raises:
        BenchError: there is no image.
    """
    image = bench.images / "ccinit-prod.root.erofs"
    if not image.is_file():
        raise BenchError(f"no {image}: run `make image`")
    digest = hashlib.sha256(image.read_bytes()).hexdigest()[:16]
    target = (bench.cache / f"root-{digest}").resolve()
    if not target.is_dir():
        bench.say("extracting the guest's root")
        remove_others(bench.cache, "root-*")
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = ("--overwrite", "--preserve", f"--extract={partial}")
        bench.tools.run(
            ("fsck.erofs", *options, image.resolve()),
            directories=(bench.images, bench.cache),
        )
        partial.rename(target)
    return GuestRoot(target)


@dataclass(frozen=True, slots=True)
class ReadyProgram:
    """A program that has printed its first line, and waits for a line from us."""

    process: subprocess.Popen[bytes]

    def go(self) -> str:
        """Let it go on; return its next line, which says that it is done."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("started without pipes")
        stdin.write(b"go\n")
        stdin.flush()
        return stdout.readline().decode()


@contextmanager
def start_ready(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[ReadyProgram]:
    """Start a program that says so when it is ready; leaving the block waits for its end.

    Raises:
        BenchError: it failed; the text ends with its last words.
    """
    with (
        TemporaryFile() as words,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
        ) as process,
    ):
        program = ReadyProgram(process)
        try:
            is_ready = process.stdout is not None and bool(process.stdout.readline())
            if is_ready:
                yield program
            if process.stdin is not None:
                process.stdin.close()
            status = process.wait(_COMMAND_SECONDS)
        except BaseException:
            process.kill()
            raise
        words.seek(0)
        _check_end(command, status, words.read())
        if not is_ready:
            raise BenchError(f"{command[-1]} ended before it was ready")


def remove_others(folder: Path, pattern: str) -> None:
    """Remove what was kept for another image."""
    for path in folder.glob(pattern):
        shutil.rmtree(path)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        BenchError: it failed; the text ends with its last words.
    """
    done = subprocess.run(
        command, env=environment, capture_output=True, timeout=_COMMAND_SECONDS, check=False
    )
    _check_end(command, done.returncode, done.stderr)
    return done.stdout.decode()


def _check_end(command: Sequence[str], status: int, words: bytes) -> None:
    if status:
        text = words.decode(errors="replace")[-1500:]
        raise BenchError(f"{' '.join(map(str, command[-6:]))} ended with {status}: {text}")
