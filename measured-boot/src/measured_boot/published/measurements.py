"""Describe predictions for programs: what a verifier compares, and what it depends on.

    {"version": 1, "platform", "technology", "boot", "profile", "compared": bool,
     "inputs": {…}, "registers": {NAME: HEX}}

`compared` is false where no real boot has shown these registers yet; a policy that accepts that has
to say so. Names of registers are `pcr4`, `pcr9`, `pcr11`; `launch_digest`; `mrtd`, `rtmr1`,
`rtmr2`; `svsm_launch_digest`, which means nothing without the PCRs beside it. A register that the
boot leaves at zero is not named, so that nobody matches it.
"""

from typing import Any, Final

from measured_boot.prediction import BootEvents, Prediction
from measured_boot.published.reference_values import profile_of

VERSION: Final = 1


def describe(prediction: Prediction) -> dict[str, Any]:
    """Return the JSON value of one prediction."""
    platform = prediction.platform
    return {
        "version": VERSION,
        "platform": platform.name,
        "technology": platform.technology.value,
        "boot": platform.boot.value,
        "profile": profile_of(prediction.command_line).value,
        "compared": platform.is_compared,
        "inputs": dict(prediction.inputs),
        "registers": {name: value.hex() for name, value in prediction.named_registers.items()},
    }


def describe_events(boot: BootEvents) -> list[dict[str, Any]]:
    """Return the events that a log will have, for whoever replays one."""
    return [
        {
            "pcr": event.register,
            "kind": event.kind.value,
            "sha256": event.digest.hex(),
            "sha384": event.wide_digest.hex(),
            "subject": event.subject,
        }
        for event in boot.events
    ]
