"""Whether the roots that a pod.toml and its ccinit.toml name are certificates of authorities, of
which one has not ended.

A guest looks at each when it first connects: at those of a registry only once it has attested. From
then on it looks at dates, at those of the KBS's authority, too.
"""

import ssl
import time
from collections.abc import Iterator

from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.pod.manifest import PodManifest


def find_bad_roots(pod: PodManifest, config: GuestConfig | None) -> Iterator[tuple[str, str]]:
    """Yield reason and place of each text that the guest could trust nobody by.

    The reasons are the guest's: `net.roots`, `net.certificate_time`.
    """
    for place, text in (*_roots_of_pod(pod), *_roots_of_config(config)):
        for reason, said in _judge(text):
            yield reason, f"{place}: {said}"


def _roots_of_pod(pod: PodManifest) -> Iterator[tuple[str, str]]:
    for image in pod.images:
        yield f"image {image.name}, ca", image.ca_pem
    for rule in pod.registries:
        for location in (rule.location, *rule.mirrors):
            if location.access.ca_pem:  # empty is the image's
                yield f"registry {rule.prefix}, ca", location.access.ca_pem


def _roots_of_config(config: GuestConfig | None) -> Iterator[tuple[str, str]]:
    if config is None:
        return
    yield "kbs.ca", config.kbs.ca_pem
    if config.kbs.passport is not None:
        yield "kbs.passport.ca", config.kbs.passport.ca_pem
    if config.owner is not None:
        yield "owner.client_ca", config.owner.client_ca_pem


def _judge(text: str) -> Iterator[tuple[str, str]]:
    """Read the text as the guest's TLS does; yield what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, TypeError, ValueError):
        yield "net.roots", "not PEM certificates"
        return
    roots = context.get_ca_certs()
    if not roots:
        said = "a certificate, but not one of an authority (is it the server's own?)"
        yield "net.roots", said
        return
    ends = [str(root["notAfter"]) for root in roots]
    if all(ssl.cert_time_to_seconds(end) < time.time() for end in ends):
        yield "net.certificate_time", f"has ended, on {' and '.join(ends)}"
