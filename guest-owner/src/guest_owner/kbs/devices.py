"""Devices beside a guest's platform that this KBS can judge, by their names in RCAR.

What their evidence is compared with is `guest_owner.kbs.verifiers.devices`; which guest has to have
which of them is for the rules of the policy to say.
"""

from enum import StrEnum


class Device(StrEnum):
    """One kind; Trustee's `sampledevice` proves nothing: a rule for `prod` cannot name it."""

    SAMPLE_DEVICE = "sampledevice"


PROVING: frozenset[Device] = frozenset()
"""Those whose evidence only the device itself can make: none of them yet."""
