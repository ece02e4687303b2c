"""What `create` leaves in a container's folder for the life that boots its guest."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from host_runtime.oci_runtime.container import FILE_MODE
from measured_boot.command_line.files import write_whole

_PLAN: Final = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """What `create` has decided.

    Attributes:
        boot: words of `host-runtime boot`.
        descriptors: of this process, by which some of its disks are named.
        network_namespace: see `Bundle`.
        resolver_file: likewise.
        sealed_log: path of a file that is not there yet.
    """

    boot: Sequence[str]
    descriptors: Sequence[int]
    network_namespace: str | None
    resolver_file: str
    stop_grace_seconds: int
    sealed_log: str
    sealed_log_bytes: int
    all_sealed_logs_bytes: int

    def write(self, folder: Path) -> None:
        """Leave the plan in a container's folder."""
        write_whole(folder / _PLAN, json.dumps(asdict(self)).encode(), FILE_MODE)

    @classmethod
    def read(cls, folder: Path) -> "GuestPlan":
        """Return the plan that `create` left."""
        return cls(**json.loads((folder / _PLAN).read_text()))
