"""What the owner registered: reference values, attestation keys, initdata documents.

Values and their JSON form only (RATS, RFC 9334: Reference Values and Endorsements); files are
`guest_owner.kbs.store`, comparing evidence with them is `guest_owner.kbs.verifier_tpm`.

A reference value file is what `measured_boot` predicts for one image and one boot path:

    {"version": 1, "name": "trixie-1", "profile": "prod" | "test", "boot": "uki" | "direct",
     "pcr": {"4": HEX, "9": HEX, "11": HEX}}

The profile is a property of the measurement: a `test` image can be made to say anything, so its
values must never be registered as `prod`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.digest import Digest
from ccinit.formats.fields import Fields

PCR_BYTES = 32
ZERO_PCR = bytes(PCR_BYTES)
BOOT_PCRS = (4, 9, 11)
MAX_REFERENCE_BYTES = 64 * 1024
MAX_NAME_BYTES = 64

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_HEX_DIGITS = frozenset("0123456789abcdef")


class Profile(StrEnum):
    """Which kind of image a measurement belongs to."""

    PROD = "prod"
    TEST = "test"


class Boot(StrEnum):
    """How firmware starts the kernel, which decides the registers that it measures into."""

    UKI = "uki"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """The predicted registers of one image on one boot path.

    Attributes:
        pcr: 32 bytes each for PCR 4, 9 and 11; PCR 11 is zero for direct boot, nothing else is.
    """

    name: str
    profile: Profile
    boot: Boot
    pcr: Mapping[int, bytes]

    def __post_init__(self) -> None:
        check_name(self.name, "reference.name")
        if set(self.pcr) != set(BOOT_PCRS):
            raise FormatError("reference.pcr", "expected exactly PCR 4, 9 and 11")
        for index in BOOT_PCRS:
            must_be_zero = index == 11 and self.boot is Boot.DIRECT
            if (self.pcr[index] == ZERO_PCR) != must_be_zero:
                wanted = "be zero for direct boot" if must_be_zero else "not be zero"
                raise FormatError(f"reference.pcr.{index}", f"PCR {index} must {wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredKey:
    """A TPM attestation key that the owner trusts; `public_der` is its SubjectPublicKeyInfo."""

    name: str
    public_der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredInitdata:
    """An initdata document on the owner's list, by the SHA-256 of the whole document."""

    name: str
    digest: Digest

    @property
    def register(self) -> bytes:
        """PCR 8 after the one extend that binds the document."""
        return hashlib.sha256(ZERO_PCR + self.digest.raw).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Everything that evidence is compared with; empty means that nothing is trusted."""

    sets: tuple[ReferenceSet, ...] = ()
    attestation_keys: tuple[RegisteredKey, ...] = ()
    initdata: tuple[RegisteredInitdata, ...] = ()

    def __post_init__(self) -> None:
        profiles: dict[tuple[bytes, ...], Profile] = {}
        for known in self.sets:
            registers = tuple(known.pcr[index] for index in BOOT_PCRS)
            if profiles.setdefault(registers, known.profile) is not known.profile:
                raise FormatError(
                    "reference.profile", f"{known.name}: the same registers have another profile"
                )


def check_name(name: str, reason: str) -> str:
    """Return a name that is also a safe file name: `[a-z0-9-_.]`, at most 64, no leading dot."""
    if not name or len(name) > MAX_NAME_BYTES or name.startswith("."):
        raise FormatError(reason, f"expected 1 to {MAX_NAME_BYTES} characters, no leading dot")
    if not _NAME_CHARACTERS.issuperset(name):
        raise FormatError(reason, "expected lower-case letters, digits, '-', '_' and '.'")
    return name


def parse_reference_set(data: bytes, *, name: str | None = None) -> ReferenceSet:
    """Read a reference value file.

    Args:
        data: the JSON text.
        name: use this name in place of the file's.

    Raises:
        FormatError: with a reason below `reference`.
    """
    if len(data) > MAX_REFERENCE_BYTES:
        raise LimitExceededError("reference.length", f"more than {MAX_REFERENCE_BYTES} bytes")
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError("reference.json", "malformed JSON") from error
    with Fields(value, "reference") as fields:
        fields.integer("version", low=1, high=1)
        written = fields.text("name", max_bytes=MAX_NAME_BYTES)
        return ReferenceSet(
            name=name or written,
            profile=fields.choice("profile", Profile),
            boot=fields.choice("boot", Boot),
            pcr=fields.table("pcr", _read_registers),
        )


def _read_registers(fields: Fields) -> Mapping[int, bytes]:
    registers = {}
    for index in BOOT_PCRS:
        if index == 11 and not fields.has("11"):
            registers[index] = ZERO_PCR
        else:
            registers[index] = _parse_register(fields.text(str(index)), index)
    return registers


def _parse_register(text: str, index: int) -> bytes:
    if len(text) != 2 * PCR_BYTES or not _HEX_DIGITS.issuperset(text):
        raise FormatError(f"reference.pcr.{index}", "expected 64 lower-case hex digits")
    return bytes.fromhex(text)


def encode_reference_set(reference: ReferenceSet) -> bytes:
    """Encode a reference set in the form that `parse_reference_set` reads."""
    value = {
        "version": 1,
        "name": reference.name,
        "profile": reference.profile.value,
        "boot": reference.boot.value,
        "pcr": {str(index): reference.pcr[index].hex() for index in BOOT_PCRS},
    }
    return json.dumps(value, indent=2).encode() + b"\n"
