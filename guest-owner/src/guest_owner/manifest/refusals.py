"""What a guest would refuse of a manifest and a ccinit.toml after it has accepted their form.

It would find out when it attests, connects or pulls; nobody should have to boot a guest for that.
"""

from collections.abc import Iterator

from ccinit.errors import FormatError
from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.initdata.guest_files import check_agreement
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import name_resources
from guest_owner.manifest.certificates import find_bad_certificates
from guest_owner.sealed_log.key import verify_public_key

Finding = tuple[str, str]
"""A reason as the guest would give it, and what is wrong."""


def find_refusals(pod: PodManifest, config: GuestConfig | None) -> Iterator[Finding]:
    """Yield what is wrong; `config` is None if only the manifest is there."""
    yield from find_bad_certificates(pod, config)
    try:
        if config is None:
            name_resources(pod)
        else:
            check_agreement(config, pod)
    except FormatError as error:
        yield error.reason, error.detail
    if config is not None:
        try:
            verify_public_key(config.log.public_key)
        except FormatError as error:
            yield error.reason, f"log.public_key: {error.detail}"
