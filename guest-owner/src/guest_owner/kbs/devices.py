"""Devices beside a guest's platform that this KBS can judge, by their names in RCAR.

`guest_owner.kbs.verifiers.devices` judges their evidence; the rules of the policy say which guest
has to have which of them.
"""

from enum import StrEnum


class Device(StrEnum):
    """A kind of device; Trustee's `sampledevice` proves nothing, so no `prod` rule may name it."""

    SAMPLE_DEVICE = "sampledevice"


PROVING: frozenset[Device] = frozenset()
"""Those whose evidence only the device itself can make: none of them yet."""
