"""The owner and the builder as the demo drives them: by the commands that a user would type."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.demo.show import DemoError

BIN = Path(sys.executable).parent
_COMMAND_SECONDS = 900


def run(party: str, *command: str | Path, remedy: str, stdin: bytes | None = None) -> str:
    """Run a command of a party; its standard error goes to ours.

    Raises:
        DemoError: it failed.
    """
    words = (str(BIN / command[0]), *map(str, command[1:]))
    done = subprocess.run(
        words, input=stdin, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise DemoError(party, f"`{' '.join(words)}` ended with {done.returncode}", remedy)
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

    def run(self, *command: str | Path, stdin: bytes | None = None) -> str:
        """Run `guest-owner`; `--state` is added behind the words that name the command."""
        return run(
            "owner",
            "guest-owner",
            *command,
            remedy="the command's own message above says what to mend",
            stdin=stdin,
        )

    def register_resource(self, uri: str, content: bytes, kind: str, *options: str) -> None:
        """Store a resource in its envelope."""
        self.run(
            *("register", "resource", uri, "-", "--state", self.state),
            *("--kind", kind, "--envelope", *options),
            stdin=content,
        )

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Run the KBS on loopback; yields its port."""
        log = self.folder / "kbs.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                (BIN / "guest-owner", "kbs", "serve", "--state", self.state,
                 "--listen", "127.0.0.1:0"),
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                raise DemoError("owner", f"the KBS did not start: {line}", f"see {log}")
            yield int(line.strip().rpartition(":")[2].rstrip("/"))
        finally:
            process.terminate()
            process.wait(timeout=10)
            if process.stdout is not None:
                process.stdout.close()

    def audit(self) -> list[Mapping[str, object]]:
        """Every record of the KBS's audit log."""
        path = self.state / "audit.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]


def make_log_key(owner: Owner) -> str:
    """Make the log's key pair; return the public key for `ccinit.toml`."""
    return owner.run("log-key", "new", owner.log_key).split()[-1].strip('"')


def random_secret() -> bytes:
    """A canary: unlike anything else in the world, printable, so that it can be searched for."""
    return f"canary-{os.urandom(24).hex()}".encode()


@contextmanager
def scratch_folder(keep: Path | None) -> Iterator[Path]:
    """A fresh folder that goes away, or `keep`."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
