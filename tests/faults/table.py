"""The table of faults and bad inputs, R1 to R98, as `rows.toml` beside this file holds it.

A row says how the fault is brought about, what guest, host and owner are to make of it, and in
which places tests have to show it: `unit` and `integration` natively, `vm` in a guest.
"""

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("rows.toml")
COUNT: Final = 98
_KEYS: Final = frozenset({"priority", "how", "guest", "host", "owner", "where"})
_HARDWARE: Final = "needs_hardware"


class Place(StrEnum):
    """Where a test runs, as the folder of `tests` is called that it lies in."""

    INTEGRATION = "integration"
    UNIT = "unit"
    VM = "vm"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """One row.

    Attributes:
        how: the fault is brought about.
        guest: what the guest has to do, with the reason that it gives.
        host: what the host may see of it; see docs/host-rpc.md for the codes.
        owner: what the owner learns.
        where: places in each of which a test of the short run shows it.
        needs_hardware: why nothing but a real TEE can show it; empty for all others.
    """

    id: str
    priority: str
    how: str
    guest: str
    host: str
    owner: str
    where: tuple[Place, ...]
    needs_hardware: str = ""


class TableError(ValueError):
    """The table, or what refers to it, is not in order."""


def parse_table(text: str) -> tuple[FaultRow, ...]:
    """Read the table.

    Raises:
        TableError: a row is missing, in another place or of another form.
    """
    tables = tomllib.loads(text)
    expected = [f"R{number}" for number in range(1, COUNT + 1)]
    if list(tables) != expected:
        raise TableError(f"rows are not R1 to R{COUNT} in order")
    return tuple(_parse_row(name, table) for name, table in tables.items())


def _parse_row(name: str, table: dict[str, Any]) -> FaultRow:
    if table.keys() - {_HARDWARE} != _KEYS:
        raise TableError(f"{name}: keys are not {', '.join(sorted(_KEYS))}")
    where = tuple(Place(place) for place in table.pop("where"))
    texts = {key: str(value) for key, value in table.items()}
    if list(where) != sorted(set(where)) or "" in texts.values():
        raise TableError(f"{name}: where is not sorted, or a text is empty")
    if texts["priority"] not in {"P0", "P1", "P2"}:
        raise TableError(f"{name}: priority")
    if bool(where) == (_HARDWARE in texts):
        raise TableError(f"{name}: either places or a reason why there are none")
    return FaultRow(id=name, where=where, **texts)


@cache
def read_table() -> tuple[FaultRow, ...]:
    """Read the table of this tree."""
    return parse_table(FILE.read_text())
