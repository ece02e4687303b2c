"""Audit records of what commands on the KBS's own machine change.

A record is written before the change, and a second one if the change then fails. The command holds
the right to change the state while it writes them, into files of the log that `kbs serve` never
writes (`guest_owner.kbs.audit.files`). With records newer than the newest backup, an owner can redo
what the backup lacks. What an editor, `rm` or `cp` does to the directory is not recorded.
"""

import hashlib
import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import CcinitError
from guest_owner.files import is_file
from guest_owner.kbs.audit.log import AUDIT_NAME, AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.exclusion import changing
from guest_owner.kbs.state.store import RESOURCES, Store

_LOGIN_USER: Final = Path("/proc/self/loginuid")
_NO_LOGIN: Final = 2**32 - 1


@contextmanager
def recorded(
    state: Path, request: str, *, registered: str = "", replaced: str = ""
) -> Iterator[None]:
    """Record what the block changes; it runs with the right to change the state.

    Args:
        state: the state directory.
        request: the command.
        registered: what is there afterwards; never a secret, nor the digest of one.
        replaced: what was there before.

    Raises:
        ConfigError: `audit.write`, before anything changes; as `changing`.
    """

    def record(decision: Decision, reason: str = "") -> None:
        AuditLog(state / AUDIT_NAME).append(
            AuditRecord(
                event=Event.ADMIN,
                decision=decision,
                reason=reason,
                request=request,
                user=_user(),
                registered=registered,
                replaced=replaced,
            )
        )

    with changing(state):
        record(Decision.ACCEPTED)
        try:
            yield
        except CcinitError as error:
            record(Decision.REFUSED, str(error))
            raise


@dataclass(frozen=True, slots=True)
class FileRecorder:
    """The `Recorder` of a command; without a description it records files and digests."""

    state: Path
    request: str
    registered: str = ""
    replaced: str = ""

    @contextmanager
    def __call__(self, files: Mapping[str, bytes | None]) -> Iterator[None]:
        """See `guest_owner.kbs.state.store.Recorder`."""
        now = {
            file: hashlib.sha256(data).hexdigest()
            for file, data in files.items()
            if data is not None
        }
        has_words = self.registered or self.replaced
        with recorded(
            self.state,
            self.request,
            registered=self.registered if has_words else _describe(now),
            replaced=self.replaced if has_words else describe_present(self.state, files),
        ):
            yield


def recording_store(state: Path, request: str) -> Store:
    """Return a store whose changes are recorded as those of this command."""
    return Store(state, FileRecorder(state, request))


def describe_present(state: Path, files: Iterable[str]) -> str:
    """Return those of these files that are there, with their digests; "" for none.

    Raises:
        ConfigError: `state.read`.
    """
    return _describe({file: _digest_of(state / file) for file in files if is_file(state / file)})


def _describe(digests: Mapping[str, str]) -> str:
    """Return files with their digests, but no resource's: it would help to guess a short secret."""
    return ", ".join(
        f"{file} sha256:{digest}" if digest and not file.startswith(f"{RESOURCES}/") else file
        for file, digest in digests.items()
    )


def _digest_of(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:  # what cannot be read can be replaced
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""


def _user() -> str:
    """Return who logged in, which the kernel remembers across sudo, or else the process's user."""
    number = os.getuid()
    with suppress(OSError, ValueError):
        login = int(_LOGIN_USER.read_text(encoding="ascii"))
        number = number if login == _NO_LOGIN else login
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
