"""The owner and the builder, driven by the commands that a user would type."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ccinit.formats.planes.owner_rpc import ClientRole
from tests.chain.show import PartyError

BIN = Path(sys.executable).parent
_COMMAND_SECONDS = 900
_FOLLOW_SECONDS = 60


def run(
    party: str,
    *command: str | Path,
    remedy: str,
    stdin: bytes | None = None,
    accept: tuple[int, ...] = (0,),
) -> str:
    """Run a command of a party and return what it printed; its standard error goes to ours.

    Args:
        party: who runs it.
        command: program of this environment, and its arguments.
        remedy: what to do if it fails.
        stdin: its standard input.
        accept: exit codes that are no failure.

    Raises:
        PartyError: it failed.
    """
    words = (str(BIN / command[0]), *map(str, command[1:]))
    done = subprocess.run(
        words, input=stdin or b"", stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
    )
    if done.returncode not in accept:
        raise PartyError(party, f"`{' '.join(words)}` ended with {done.returncode}", remedy)
    return done.stdout.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The guest's owner: a state directory of `guest-owner`, and keys that stay there."""

    folder: Path

    @property
    def state(self) -> Path:
        """The KBS's state."""
        return self.folder / "kbs"

    @property
    def log_key(self) -> Path:
        """Private key of the sealed log."""
        return self.folder / "log.key"

    @property
    def log_psk(self) -> Path:
        """The key shared with attested guests alone, which the log's later records need too."""
        return self.folder / "log.psk"

    def client(self, role: ClientRole) -> Path:
        """Key and certificate of a client of the owner plane."""
        return self.folder / f"client-{role}.pem"

    def ask(
        self,
        command: str,
        *words: str | Path,
        at: str,
        role: ClientRole = ClientRole.EXEC,
        stdin: bytes | None = None,
        accept: tuple[int, ...] = (0,),
    ) -> str:
        """Run a command of the owner plane against the guest behind `at`, HOST:PORT."""
        reach = self._reach(at, role)
        return self.run(*command.split(), *reach, *words, stdin=stdin, accept=accept)

    def refused(
        self, command: str, *words: str | Path, at: str, role: ClientRole = ClientRole.EXEC
    ) -> str:
        """Run a command of the owner plane that has to be refused; return the reason.

        Raises:
            PartyError: it was not.
        """
        line = (BIN / "guest-owner", *command.split(), *self._reach(at, role), *words)
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_SECONDS,
            text=True, check=False,
        )  # fmt: skip
        _, found, reason = done.stderr.strip().rpartition("[")
        if done.returncode != 1 or not found:
            told = f"`guest-owner {command}` ended with {done.returncode}: {done.stderr[-500:]}"
            raise PartyError("owner", f"a refusal was expected, {told}")
        return reason.removesuffix("]")

    def start(
        self, command: str, *words: str | Path, at: str, role: ClientRole = ClientRole.EXEC
    ) -> "subprocess.Popen[bytes]":
        """Start a command of the owner plane, whose output and messages the caller reads."""
        line = (BIN / "guest-owner", *command.split(), *self._reach(at, role), *words)
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @contextmanager
    def following(self, container: str, *, at: str) -> Iterator[IO[str]]:
        """Run `logs -f` of a container; yields what it prints, for a minute at most."""
        command = (BIN / "guest-owner", "logs", "-f", "--container", container)
        reach = self._reach(at, ClientRole.LOGS)
        with subprocess.Popen((*command, *reach), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            last_call = threading.Timer(_FOLLOW_SECONDS, process.terminate)
            last_call.start()
            try:
                yield process.stdout
            finally:
                last_call.cancel()
                process.terminate()

    def _reach(self, at: str, role: ClientRole) -> tuple[str | Path, ...]:
        """The options that every command of the owner plane takes."""
        connection = ("--connect", at, "--pod", "demo", "--client", self.client(role))
        return (*connection, "--state", self.state)

    def run(
        self, *command: str | Path, stdin: bytes | None = None, accept: tuple[int, ...] = (0,)
    ) -> str:
        """Run `guest-owner`; see the function `run`."""
        return run(
            "owner",
            "guest-owner",
            *command,
            remedy="the command's own message above says what to mend",
            stdin=stdin,
            accept=accept,
        )

    def register_resource(self, uri: str, content: bytes, kind: str, *options: str) -> None:
        """Store a resource in its envelope."""
        self.run(
            *("register", "resource", uri, "-", "--state", self.state),
            *("--kind", kind, "--envelope", *options),
            stdin=content,
        )

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[int]:
        """Run the KBS on loopback, on a free port if it is 0; yields the port."""
        log = self.folder / "kbs.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                (BIN / "guest-owner", "kbs", "serve", "--state", self.state,
                 "--listen", f"127.0.0.1:{port}"),
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                raise PartyError("owner", f"the KBS did not start: {line}", f"see {log}")
            yield int(line.strip().rpartition(":")[2].rstrip("/"))
        finally:
            process.terminate()
            process.wait(timeout=10)
            if process.stdout is not None:
                process.stdout.close()

    def audit(self) -> list[Mapping[str, Any]]:
        """Every record of the KBS's audit log."""
        shown = self.run("audit", "show", "--json", "--state", self.state)
        return [json.loads(line) for line in shown.splitlines()]


def make_log_key(owner: Owner, path: Path) -> str:
    """Make a log's key pair, the private half at `path`; return the half for `ccinit.toml`."""
    return owner.run("log-key", "new", path).split()[-1].strip('"')


def random_secret() -> bytes:
    """A canary: unlike anything else in the world, printable, so that it can be searched for."""
    return f"canary-{os.urandom(24).hex()}".encode()
