"""Write the file that a guest's owner registers: the registers of one image on one platform.

    {"version": 1, "name", "profile": "prod" | "test", "boot": "uki" | "direct",
     "pcr": {"4": HEX, "9": HEX, "11": HEX}}
    {"version": 1, "name", "profile", "platform": "snp" | "sev-es" | "sev", "measurement": [HEX]}
    {"version": 1, "name", "profile", "platform": "tdx", "mrtd", "rtmr1", "rtmr2",
     "events": {"1": [{"digest", "subject"}], "2": […]}}
    {"version": 1, "name", "profile", "platform": "snp-svsm", "measurement": [HEX], "pcr": {…}}

Under SEV an image has one launch digest for each number and model of processors. The owner's side
(`guest_owner.kbs.references`) reads and enforces these files, and refuses the last form: the launch
digest of an SVSM is that of no image, and would let in any. It belongs in the owner's requirements,
as that of a `paravisor`; what the SVSM's TPM will hold is registered as a TPM's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ccinit.errors import ConfigError
from measured_boot.platforms import Boot, Technology
from measured_boot.prediction import LaunchPrediction, TpmPrediction
from measured_boot.tdx.registers import PREDICTED_RTMRS, rtmr_of
from measured_boot.tpm.boot_events import EXITS
from measured_boot.tpm.pcr import PREDICTED_REGISTERS, PcrValue

VERSION: Final = 1
MAX_NAME_BYTES: Final = 64
MAX_MEASUREMENTS: Final = 1024  # that the owner takes in one file
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_PROD_WORD: Final = "oops=panic"


class Profile(StrEnum):
    """Which kind of image it is; a `test` image can be made to say anything."""

    PROD = "prod"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """One set of values; made by `reference_values`.

    Attributes:
        pcr4, pcr9, pcr11: 32 bytes each; PCR 11 is zero after direct boot.
    """

    name: str
    profile: Profile
    boot: Boot
    pcr4: PcrValue
    pcr9: PcrValue
    pcr11: PcrValue

    def to_bytes(self) -> bytes:
        """Encode as JSON, the same bytes for the same values."""
        value = {
            "version": VERSION,
            "name": self.name,
            "profile": self.profile.value,
            "boot": self.boot.value,
            "pcr": {"4": self.pcr4.hex(), "9": self.pcr9.hex(), "11": self.pcr11.hex()},
        }
        return json.dumps(value, indent=2).encode() + b"\n"


def profile_of(command_line: str) -> Profile:
    """Return the profile of an image by its measured command line.

    A file's name can be wrong, but the guest runs with this line. Only `prod` images end at the
    first oops.
    """
    return Profile.PROD if _PROD_WORD in command_line.split(" ") else Profile.TEST


def require_profile(command_line: str, profile: Profile | None) -> Profile:
    """Return the profile of an image if it is the wanted one; None wants any.

    Raises:
        ConfigError: `reference.profile`.
    """
    actual = profile_of(command_line)
    if profile not in {None, actual}:
        raise ConfigError(
            "reference.profile", f"this is a {actual.value} image by its command line"
        )
    return actual


def reference_values(
    prediction: TpmPrediction, name: str, profile: Profile | None = None
) -> ReferenceValues:
    """Return the values to register.

    Args:
        prediction: of the image.
        name: for people, and a file name at the owner's: `[a-z0-9-_.]`, at most 64.
        profile: what the image is meant to be; None takes what it is.

    Raises:
        ConfigError: `reference.name`; `reference.profile`: the image is not of that profile.
    """
    check_name(name)
    actual = require_profile(prediction.command_line, profile)
    pcr4, pcr9, pcr11 = (prediction.registers[index] for index in PREDICTED_REGISTERS)
    return ReferenceValues(
        name=name,
        profile=actual,
        boot=prediction.platform.boot,
        pcr4=pcr4,
        pcr9=pcr9,
        pcr11=pcr11,
    )


def encode_launches(
    predictions: Sequence[LaunchPrediction], name: str, profile: Profile | None = None
) -> bytes:
    """Return the file to register for launches of one image under a TEE.

    Args:
        predictions: for one platform; under TDX exactly one.
        name: as for `reference_values`.
        profile: as for `reference_values`.

    Raises:
        ConfigError: `reference.name`, `reference.profile`; `reference.measurement`: of more
            machines than a KBS takes.
    """
    check_name(name)
    first = predictions[0]
    value: dict[str, Any] = {
        "version": VERSION,
        "name": name,
        "profile": require_profile(first.command_line, profile).value,
        "platform": first.platform.technology.value,
    }
    if first.platform.technology is Technology.TDX:
        value |= {register: digest.hex() for register, digest in first.registers.items()}
        value["events"] = _list_events(first)
    elif first.platform.technology is Technology.SNP_SVSM:
        value["measurement"] = _list_digests(predictions, "svsm_launch_digest")
        registers = {str(index): first.registers[f"pcr{index}"] for index in PREDICTED_REGISTERS}
        value["pcr"] = {index: register.hex() for index, register in registers.items()}
    else:
        value["measurement"] = _list_digests(predictions, "launch_digest")
    return json.dumps(value, indent=2).encode() + b"\n"


def _list_digests(predictions: Sequence[LaunchPrediction], register: str) -> list[str]:
    digests = (prediction.registers[register].hex() for prediction in predictions)
    different = list(dict.fromkeys(digests))  # some models share a signature
    if len(different) > MAX_MEASUREMENTS:
        found = f"{len(different)} machines differ, and a KBS takes {MAX_MEASUREMENTS} in a file"
        raise ConfigError("reference.measurement", f"{found}: make several, by --name")
    return different


def _list_events(prediction: LaunchPrediction) -> dict[str, list[dict[str, str]]]:
    events = (*prediction.events, *EXITS)
    return {
        str(index): [
            {"digest": event.wide_digest.hex(), "subject": event.subject}
            for event in events
            if rtmr_of(event.register) == index
        ]
        for index in PREDICTED_RTMRS
    }


def check_name(name: str) -> str:
    """Return a name of reference values.

    Raises:
        ConfigError: `reference.name`.
    """
    if not 0 < len(name) <= MAX_NAME_BYTES or name.startswith("."):
        words = f"1 to {MAX_NAME_BYTES} characters, no leading dot"
        raise ConfigError("reference.name", f"expected {words}, found {name[:80]!r}")
    if not _NAME_CHARACTERS.issuperset(name):
        words = "lower-case letters, digits, '-', '_', '.'"
        raise ConfigError("reference.name", f"expected {words}, found {name!r}")
    return name
