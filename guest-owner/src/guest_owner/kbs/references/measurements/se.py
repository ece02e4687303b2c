"""What Secure Execution measures of an image: its header's digests and tag, hex throughout.

    "pld", "ald", "tld": 64 bytes each; digests of the encrypted image's pages, addresses and tweaks
    "tag": 16 bytes; it seals the header, its flags and the keys among them

`pvextract-hdr` and `genprotimg` of s390-tools leave the header; it is the image's whole identity.
"""

from dataclasses import dataclass
from typing import ClassVar

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.evidence.tee import Tee

DIGEST_BYTES = 64
TAG_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SeMeasurements:
    """The registered header of one encrypted image."""

    tee: ClassVar[Tee] = Tee.SE
    pld: bytes
    ald: bytes
    tld: bytes
    tag: bytes

    def __post_init__(self) -> None:
        sizes = {"pld": DIGEST_BYTES, "ald": DIGEST_BYTES, "tld": DIGEST_BYTES, "tag": TAG_BYTES}
        for name, size in sizes.items():
            value = getattr(self, name)
            if len(value) != size or not any(value):
                raise FormatError(f"reference.{name}", f"expected {size} bytes, not all zero")

    @property
    def header_tags(self) -> bytes:
        """The four values in the order in which the ultravisor measures them, 208 bytes."""
        return self.pld + self.ald + self.tld + self.tag

    @property
    def identities(self) -> tuple[tuple[bytes, ...], ...]:
        """Each combination of values by which the image is recognised."""
        return ((self.header_tags,),)

    def to_json_object(self) -> dict[str, object]:
        """Return the members of a reference value file."""
        return {name: getattr(self, name).hex() for name in ("pld", "ald", "tld", "tag")}


def read_se(fields: Fields) -> SeMeasurements:
    """Read what `SeMeasurements.to_json_object` wrote."""
    return SeMeasurements(
        pld=fields.hexadecimal("pld", size_bytes=DIGEST_BYTES),
        ald=fields.hexadecimal("ald", size_bytes=DIGEST_BYTES),
        tld=fields.hexadecimal("tld", size_bytes=DIGEST_BYTES),
        tag=fields.hexadecimal("tag", size_bytes=TAG_BYTES),
    )
