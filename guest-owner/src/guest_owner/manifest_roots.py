"""Whether the roots that a pod.toml and its ccinit.toml name are certificates of authorities.

A guest looks at each when it first connects: at those of a registry only once it has attested.
"""

import ssl
from collections.abc import Iterator

from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.pod.manifest import PodManifest


def find_bad_roots(pod: PodManifest, config: GuestConfig | None) -> Iterator[tuple[str, str]]:
    """Yield reason and place of each text that the guest could trust nobody by (`net.roots`)."""
    for place, text in (*_roots_of_pod(pod), *_roots_of_config(config)):
        said = _judge(text)
        if said:
            yield "net.roots", f"{place}: {said}"


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


def _judge(text: str) -> str:
    """Read the text as the guest's TLS does; empty if it is good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, TypeError, ValueError):
        return "not PEM certificates"
    if not context.get_ca_certs(binary_form=True):
        return "a certificate, but not one of an authority (is it the server's own?)"
    return ""
