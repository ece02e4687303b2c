"""Kubernetes' quantities (`resource.Quantity` of its API reference) as the numbers of a pod.toml.

    quantity      = sign? number suffix
    number        = digits | digits "." digits | digits "." | "." digits
    suffix        = Ki | Mi | Gi | Ti | Pi | Ei
                  | n | u | m | "" | k | M | G | T | P | E
                  | ("e" | "E") sign? digits

Read exactly: where a cluster rounds up (`Value`, `MilliValue`), this refuses, naming the number
that the cluster would have used.
"""

import re
from fractions import Fraction
from math import ceil
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.disk.verity import BLOCK_BYTES

_BINARY: Final = {f"{one}i": Fraction(1 << 10 * power) for power, one in enumerate("KMGTPE", 1)}
_DECIMAL: Final = {
    one: Fraction(10) ** (3 * power)
    for power, one in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
}
_FORM: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
    r"(?:[eE](?P<exponent>[+-]?[0-9]+)|(?P<suffix>[KMGTPE]i|[numkMGTPE]?))",
    re.ASCII,
)
_MAX_CHARACTERS: Final = 64
_MAX_EXPONENT: Final = 99  # far beyond what is in range; a power of ten is computed whole

_MIB: Final = 1 << 20
_TIB: Final = 1 << 40
_MIN_MILLI, _MAX_MILLI = 10, 1_024_000


def parse_quantity(value: object) -> Fraction:
    """Return what a quantity says, exactly; YAML may have made a number of it.

    Raises:
        FormatError: `kubernetes.quantity`.
    """
    # A bool would read as a word, and a float's extra digits as another number.
    text = str(value) if type(value) in (str, int, float) else ""
    found = _FORM.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if found is None:
        raise _refuse(value, "is not a quantity: 2, 0.5, 500m, 64M, 1Gi or 1e3 are")
    number, exponent = Fraction(found["number"]), found["exponent"]
    if exponent is None:
        return number * (_BINARY | _DECIMAL)[found["suffix"]]
    if abs(int(exponent)) > _MAX_EXPONENT:
        raise _refuse(value, f"has an exponent beyond {_MAX_EXPONENT}")
    return number * Fraction(10) ** int(exponent)


def parse_memory(value: object) -> int:
    """Return a container's memory in bytes; `kubernetes.quantity` is the reason of a refusal."""
    count = parse_quantity(value)
    if not _MIB <= count <= _TIB:
        raise _refuse(value, "bytes: a container's memory is from 1Mi to 1Ti")
    return _whole(value, count, 1, "")


def parse_volume_size(value: object) -> int:
    """Return the size of a disk or tmpfs in bytes, in whole blocks; refused as `parse_memory`."""
    count = parse_quantity(value)
    if not _MIB <= count <= _TIB:
        raise _refuse(value, "bytes: a volume's size is from 1Mi to 1Ti")
    return _whole(value, count, BLOCK_BYTES, "")


def parse_processors(value: object) -> int:
    """Return processors in thousandths; refused as `parse_memory`."""
    milli = parse_quantity(value) * 1000
    if not _MIN_MILLI <= milli <= _MAX_MILLI:
        raise _refuse(value, f"processors: from {_MIN_MILLI}m to {_MAX_MILLI // 1000}")
    return _whole(value, milli, 1, "m")


def _whole(value: object, count: Fraction, step: int, unit: str) -> int:
    above = ceil(count / step) * step
    if above != count:
        raise _refuse(value, f"is no multiple of {step}{unit}; write {above}{unit}")
    return above


def _refuse(value: object, why: str) -> FormatError:
    return FormatError("kubernetes.quantity", f"{str(value)[:_MAX_CHARACTERS]!r} {why}")
