"""One container's record, and the status that follows from it and from what is alive. Pure.

Specification: OCI runtime-spec 1.2, `runtime.md` (State, Lifecycle); ids as runc takes them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from ccinit.errors import ConfigError, FormatError
from host_runtime.oci_runtime.bundle import SPEC_VERSION

# The first character is no punctuation: such names are the store's own.
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]{0,199}")


class Status(StrEnum):
    """Of the runtime-spec."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """What is recorded of a container.

    Attributes:
        bundle: absolute path.
        created: RFC 3339.
        pid: of its life, which has a guest or is a member; 0 while it is being created.
        is_started: whether `start` was called.
        sandbox: id of the sandbox whose guest this one runs in, or which it is; "" outside of pods.
        member: name of the pod's container that this one stands for, "" if it has a guest.
        resources: those of its bundle; only a limit of memory may have an effect.
        cgroup: that of its bundle, "" if it names none; None: its processes stay in their caller's.
    """

    id: str
    bundle: str
    annotations: Mapping[str, str]
    created: str
    pid: int = 0
    is_started: bool = False
    sandbox: str = ""
    member: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    cgroup: str | None = None

    def with_process(self, pid: int) -> "ContainerRecord":
        """Return the record of a container whose life has begun."""
        return replace(self, pid=pid)

    def with_start(self) -> "ContainerRecord":
        """Return the record of one that was started."""
        return replace(self, is_started=True)


def parse_id(text: str) -> str:
    """Return a container's id.

    Raises:
        ConfigError: `container.id`.
    """
    if not _ID.fullmatch(text):
        raise ConfigError(
            "container.id", f"{text!r:.80}: expected up to 200 of A-Z a-z 0-9 _ + - ., no . first"
        )
    return text


def status_of(record: ContainerRecord, *, is_alive: bool, is_busy: bool) -> Status:
    """Return a container's status.

    Args:
        record: of the container.
        is_alive: whether its process is alive.
        is_busy: whether a command is working on it: one without a process may still get one.
    """
    if is_alive and record.pid:
        return Status.RUNNING if record.is_started else Status.CREATED
    if is_alive or (is_busy and not record.pid):
        return Status.CREATING
    return Status.STOPPED


def encode_state(record: ContainerRecord, status: Status) -> str:
    """Return the answer to `state`."""
    state: dict[str, object] = {
        "ociVersion": SPEC_VERSION,
        "id": record.id,
        "status": status.value,
        "pid": record.pid if status in {Status.CREATED, Status.RUNNING} else 0,
        "bundle": record.bundle,
        "annotations": dict(record.annotations),
        "created": record.created,
    }
    return json.dumps(state, indent=2)


def encode_record(record: ContainerRecord) -> str:
    """Return a record as its file has it."""
    return json.dumps(asdict(record))


def parse_record(data: bytes | str) -> ContainerRecord:
    """Read a record that `encode_record` wrote.

    Raises:
        FormatError: `container.record`: something else, or a newer version, wrote it.
    """
    try:
        return ContainerRecord(**json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        detail = "no record that this version has written; `delete --force` ends what it is of"
        raise FormatError("container.record", detail) from error
