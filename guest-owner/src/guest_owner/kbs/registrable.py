"""What an initdata document must be to be registered: one that a guest would start with."""

from dataclasses import dataclass

from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.initdata.guest_files import parse_guest_files


@dataclass(frozen=True, slots=True)
class RegistrableInitdata:
    """A document that was read as the guest reads it, and the name of its pod."""

    document: bytes
    pod_name: str


def parse_registrable_initdata(document: bytes) -> RegistrableInitdata:
    """Read a document with the guest's parsers.

    Raises:
        FormatError: below `initdata`, or as `parse_guest_files`.
    """
    _, pod = parse_guest_files(parse_initdata(document))
    return RegistrableInitdata(document, pod.name)
