"""What an initdata document must be to be registered: one that a guest would start with."""

from dataclasses import dataclass

from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.manifest import PodManifest


@dataclass(frozen=True, slots=True)
class RegistrableInitdata:
    """A document that was read as the guest reads it, and what it says."""

    document: bytes
    config: GuestConfig
    pod: PodManifest

    @property
    def pod_name(self) -> str:
        """The name of its pod."""
        return self.pod.name


def parse_registrable_initdata(document: bytes) -> RegistrableInitdata:
    """Read a document with the guest's parsers.

    Raises:
        FormatError: below `initdata`, or as `parse_guest_files`.
    """
    return RegistrableInitdata(document, *parse_guest_files(parse_initdata(document)))
