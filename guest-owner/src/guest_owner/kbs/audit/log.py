"""The audit log: who asked for what, what was compared, what was decided.

Each record is on the disk before its reply leaves.

What anybody can cause has files of its own, so that no stranger can push out what guests and
administrators did; so has what exceeds a pod's share. Records are `guest_owner.kbs.audit.record`,
files `guest_owner.kbs.audit.files`, shares `guest_owner.kbs.audit.shares`.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from guest_owner.kbs.audit.files import (
    append_line,
    chain_files,
    chains_of,
    continuation,
    continuation_of,
    count_records,
    drop_unfinished,
    find_identity,
    local_of,
    older_files,
    open_chain,
    removal,
    remove_older,
    set_aside,
    strangers_of,
    surplus_of,
    whole_lines,
    whole_lines_of,
)
from guest_owner.kbs.audit.record import (
    AuditRecord,
    Decision,
    Event,
    encode_record,
    parse_record,
)
from guest_owner.kbs.audit.shares import Shares
from guest_owner.kbs.exclusion import changing_if_free
from guest_owner.kbs.limits import DEFAULT_LIMITS, Limits

AUDIT_NAME = "audit.jsonl"
_MAX_COUNT_DIGITS = 18
_MAX_FILES = 4  # size of one file in files, while a backup keeps the log from turning over


class AuditLog:
    """The log; each `append` returns after the record is on the disk."""

    def __init__(
        self,
        path: Path,
        limits: Limits = DEFAULT_LIMITS,
        observe: Callable[[AuditRecord], None] = lambda _record: None,
    ) -> None:
        """Take over a log, or begin one.

        Args:
            path: its newest file.
            limits: how much is kept.
            observe: gets every record once it is written.

        Raises:
            ConfigError: as `chain_files`; better now than when a guest's request is to be logged.
        """
        for chain in chains_of(path):
            chain_files(chain)
        self._folder = path.parent
        self._folder_identity = find_identity(path.parent)
        self._known = _Chain(path, limits.audit_file_bytes, limits.audit_older_files, observe)
        self._strangers = _Chain(
            strangers_of(path), limits.stranger_file_bytes, limits.stranger_older_files, observe
        )
        self._surplus = _Chain(
            surplus_of(path), limits.audit_file_bytes, limits.surplus_older_files, observe
        )
        self._local = _Chain(
            local_of(path), limits.audit_file_bytes, limits.audit_older_files, observe
        )
        self._shares = Shares(limits.pod_day_bytes)

    def append(self, record: AuditRecord) -> None:
        """Write one record with the current time.

        Raises:
            ConfigError: `audit.write`, `state.replaced`; the caller must then release nothing.
        """
        self._require_same_folder()
        line = encode_record(record, datetime.now(UTC))
        self._choose_chain(record, len(line)).append(record, line)

    def _require_same_folder(self) -> None:
        """Refuse to write if another directory has taken the place of the one that we hold.

        Another KBS may hold that directory (`guest_owner.kbs.exclusion`), and two writers of one
        chain would cut off each other's lines.

        Raises:
            ConfigError: `state.replaced`.
        """
        if find_identity(self._folder) != self._folder_identity:
            detail = f"{self._folder} is another directory than when this began: start it anew"
            raise ConfigError("state.replaced", detail)

    def _choose_chain(self, record: AuditRecord, size_bytes: int) -> "_Chain":
        if record.user:
            return self._local
        if record.is_of_stranger:
            return self._strangers
        pod = record.initdata_name
        return self._known if not pod or self._shares.take(pod, size_bytes) else self._surplus


class _Chain:
    """One of the log's chains of files."""

    def __init__(
        self, path: Path, file_bytes: int, kept: int, observe: Callable[[AuditRecord], None]
    ) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._kept = kept
        self._observe = observe

    def append(self, record: AuditRecord, line: bytes) -> None:
        try:
            size = drop_unfinished(self._path)
            if not size:
                self._begin()
            elif size + len(line) > self._file_bytes:
                self._turn_over(size)
            append_line(self._path, line)
        except OSError as error:
            detail = f"cannot write {self._path}: {error.strerror}"
            raise ConfigError("audit.write", detail) from error
        self._observe(record)

    def _turn_over(self, size: int) -> None:
        """Go on in a new file, but not during a backup, which would then lack one of the two."""
        with changing_if_free(self._path.parent) as is_free:
            if is_free or size > _MAX_FILES * self._file_bytes:
                set_aside(self._path)
                self._begin()

    def _begin(self) -> None:
        """Begin a file: record what it continues and what makes room; then remove the latter."""
        older = older_files(self._path)
        if not older:
            return
        head = _read_head(older[-1])
        # A crash may have left a recorded removal undone: finish it now, without counting it again.
        # This comes before the new file's first line, after which only the new head is consulted.
        for path in filter(head.tells_removal, older[:-1]):
            remove_older(path)
        removed = head.removed
        self._write_rotation(continuation(older[-1]), removed)
        for path in older_files(self._path)[: -self._kept]:
            records = count_records(path)
            removed += records
            self._write_rotation(removal(path, records), removed)
            remove_older(path)

    def _write_rotation(self, reason: str, removed: int) -> None:
        rotation = AuditRecord(
            event=Event.ROTATION,
            decision=Decision.ACCEPTED,
            reason=reason,
            removed=str(removed),
        )
        append_line(self._path, encode_record(rotation, datetime.now(UTC)))
        self._observe(rotation)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the rotation records at the start of a file say.

    Attributes:
        removed: how many records were removed by the time that the last of them was written.
        reasons: which file this one continues, and what is removed.
    """

    removed: int
    reasons: frozenset[str]

    def tells_removal(self, path: Path) -> bool:
        """Whether the removal of exactly this file, with this content, is recorded."""
        named = any(reason.startswith(f"removes {path.name} ") for reason in self.reasons)
        return named and removal(path, count_records(path)) in self.reasons


def _read_head(path: Path) -> _Head:
    """Read the head of a file; an edited one counts as empty, and `read_audit` will report it."""
    removed, reasons = 0, set()
    for line in whole_lines(path):
        try:
            record = parse_record(line, path.name)
            if record["event"] != Event.ROTATION:
                break
            removed = int(str(record.get("removed", 0))[:_MAX_COUNT_DIGITS])
            reasons.add(str(record["reason"]))
        except (FormatError, ValueError):
            break
    return _Head(removed, frozenset(reasons))


def has_records(path: Path) -> bool:
    """Whether anything is in the log whose newest file is `path`."""
    return any(map(chain_files, chains_of(path)))


def read_audit(path: Path) -> Iterator[dict[str, object]]:
    """Yield the records of a log, from all files of all chains, in the order of their times.

    The KBS may go on writing: each chain is read as it was when its first record was asked for.

    Args:
        path: of the newest file.

    Raises:
        ConfigError: `audit.read`; as `chain_files`.
        FormatError: `audit.line`; `audit.chain`, a file is not the one that the next continues.
    """
    return heapq.merge(*map(_read_chain, chains_of(path)), key=lambda record: str(record["time"]))


def _read_chain(path: Path) -> Iterator[dict[str, object]]:
    try:
        with open_chain(path) as files:
            yield from _read_files(files)
    except OSError as error:
        where = path if error.filename is None else error.filename
        raise ConfigError("audit.read", f"cannot read {where}: {error.strerror}") from error


def _read_files(files: Iterable[BufferedReader]) -> Iterator[dict[str, object]]:
    previous: BufferedReader | None = None
    for file in files:
        name = Path(file.name).name
        expected = "" if previous is None else continuation_of(previous)
        for number, line in enumerate(whole_lines_of(file), 1):
            record = parse_record(line, f"{name}, line {number}")
            if number == 1 and previous is not None and record["reason"] != expected:
                raise FormatError("audit.chain", f"{name} does not say: {expected}")
            yield record
        previous = file
