"""Collecting a guest's sealed log into a file, which holds one stream without a gap.

To be unsealed, every byte has to be in its place. So only one command at a time adds to a file,
where the file ends, and not beyond its limit.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ccinit.errors import CcinitError, ConfigError, PeerError
from host_runtime.plane.rpc_client import GuestClient

_FOLLOW_MS = 10_000


@dataclass(frozen=True, slots=True)
class LogCollection:
    """What to collect, and where to.

    Attributes:
        output: file to append to.
        limit_bytes: how large it may become.
        cursor: where in the stream to begin; None is where the file ends.
        follow: whether to go on until the guest ends its log.
    """

    output: Path
    limit_bytes: int
    cursor: int | None = None
    follow: bool = False

    def run(self, client: GuestClient) -> int:
        """Append what the guest has; return the cursor after it.

        Raises:
            ConfigError: `collect.busy`, another command is adding to the file.
            PeerError: `collect.gap`, the guest no longer has what comes next in the file;
                `collect.limit`, the file would become too large; the client's.
            OSError: with the name of the file.
        """
        try:
            with self._opened() as output:
                return self._append(client, output)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.output)) from error

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Hold the file's lock; a new file that stayed empty is removed."""
        is_new = not self.output.exists()
        with self.output.open("ab") as output:
            _require_alone(output, self.output)
            try:
                yield output
            except CcinitError:  # while the file is ours alone: another `collect` may wait for it
                if is_new and not self.output.stat().st_size:
                    self.output.unlink()
                raise

    def _append(self, client: GuestClient, output: BinaryIO) -> int:
        # Only under the lock: another command may have added to the file since it was opened.
        size = output.seek(0, os.SEEK_END) if output.seekable() else 0  # a pipe has no end
        cursor = size if self.cursor is None else self.cursor
        wait_ms = _FOLLOW_MS if self.follow else 0
        for chunk in client.collect(cursor, wait_ms, follow=self.follow):
            start = chunk.next_cursor - len(chunk.blob)
            if self.cursor is None and start != cursor:
                raise PeerError(
                    "collect.gap",
                    f"{self.output} ends at {cursor}, what the guest still has begins at "
                    f"{start}: go on with the file that was collected into before",
                )
            size += len(chunk.blob)
            if size > self.limit_bytes:
                raise PeerError(
                    "collect.limit",
                    f"{self.output} has reached its limit of {self.limit_bytes >> 20} MiB; to go"
                    f" on: --limit-mib, or another file with --cursor {cursor}",
                )
            output.write(chunk.blob)
            output.flush()
            cursor = chunk.next_cursor
        return cursor


def _require_alone(output: BinaryIO, path: Path) -> None:
    """Refuse a file that another `collect` is adding to: the mixture could not be unsealed."""
    try:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError("collect.busy", f"another `collect` adds to {path}") from error
