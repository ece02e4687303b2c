"""Say which event of a firmware's log is the first that differs from a prediction.

Reading the log is `ccinit.formats.event_log`'s; Linux shows it as
`/sys/kernel/security/tpm0/binary_bios_measurements`. A log proves nothing by itself: only its
replay against a quoted register does, and registers are what verifiers compare (`guest_owner.kbs`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

from ccinit.formats.event_log import LoggedEvent
from measured_boot.pcr import PREDICTED_REGISTERS, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first event of a register that is not as predicted; None where one side has no more."""

    register: int
    position: int
    predicted: Event | None
    logged: LoggedEvent | None

    @property
    def logged_digest(self) -> str:
        """The logged digest as text."""
        return "nothing more" if self.logged is None else self.logged.digest.hex()


def find_differences(
    predicted: Iterable[Event], logged: Iterable[LoggedEvent]
) -> tuple[Difference, ...]:
    """Return the first difference of each predicted register, in the order of registers."""
    expected, actual = tuple(predicted), tuple(logged)
    differences = []
    for register in PREDICTED_REGISTERS:
        pairs = zip_longest(
            (event for event in expected if event.register == register),
            (event for event in actual if event.register == register),
        )
        for position, (ours, theirs) in enumerate(pairs):
            if ours is None or theirs is None or ours.digest != theirs.digest:
                differences.append(
                    Difference(register=register, position=position, predicted=ours, logged=theirs)
                )
                break
    return tuple(differences)
