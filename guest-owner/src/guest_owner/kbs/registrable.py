"""What an initdata document must be to be registered: one that a guest would start with."""

from dataclasses import dataclass

from ccinit.formats.guest_config import parse_guest_config
from ccinit.formats.initdata import parse_initdata
from ccinit.formats.pod_manifest import parse_pod_manifest


@dataclass(frozen=True, slots=True)
class RegistrableInitdata:
    """A document that was read as the guest reads it, and the name of its pod."""

    document: bytes
    pod_name: str


def parse_registrable_initdata(document: bytes) -> RegistrableInitdata:
    """Read a document with the guest's parsers.

    Raises:
        FormatError: below `initdata`, `ccinit` or `pod`.
    """
    parsed = parse_initdata(document)
    parse_guest_config(parsed.config_toml)
    return RegistrableInitdata(document, parse_pod_manifest(parsed.pod_toml).name)
