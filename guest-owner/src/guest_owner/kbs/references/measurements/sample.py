"""What the sample platform says of an image: `"svn": ["1"]`, a text that anybody can write.

Such a set must have the profile `test` (`guest_owner.kbs.references.values`). By registering one,
an owner declares that a KBS is for tests.
"""

from dataclasses import dataclass
from typing import ClassVar

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.evidence.tee import Tee


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMeasurements:
    """Version texts that are accepted."""

    tee: ClassVar[Tee] = Tee.SAMPLE
    svns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.svns or not all(self.svns) or len(set(self.svns)) != len(self.svns):
            raise FormatError("reference.svn", "expected at least one, none empty, each once")

    @property
    def identities(self) -> tuple[tuple[bytes, ...], ...]:
        """Each combination of values by which the image is recognised."""
        return tuple((svn.encode(),) for svn in self.svns)

    def to_json_object(self) -> dict[str, object]:
        """Return the members of a reference value file."""
        return {"svn": list(self.svns)}


def read_sample(fields: Fields) -> SampleMeasurements:
    """Read what `SampleMeasurements.to_json_object` wrote."""
    return SampleMeasurements(svns=fields.texts("svn"))
