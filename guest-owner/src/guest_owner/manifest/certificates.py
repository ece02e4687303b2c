"""Whether the roots in a pod.toml and its ccinit.toml are CA certificates, one of them unexpired,
and whether client certificates are certificates.

A guest would find out only when it first connects, to a registry after it has attested. From
attestation on it checks dates, even those of the KBS's authority.
"""

import ssl
import time
from collections.abc import Iterator
from tempfile import NamedTemporaryFile
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.pod.manifest import PodManifest
from guest_owner.certificates import MISMATCHES

_CIPHERS: Final = "DEFAULT:@SECLEVEL=2"  # as `ccinit.net.tls` has it
_WEAK: Final = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


def find_bad_certificates(
    pod: PodManifest, config: GuestConfig | None
) -> Iterator[tuple[str, str]]:
    """Yield reason and place of each PEM text that would be of no use to the guest.

    The reasons are the guest's: `net.roots`, `net.certificate_time`, `net.client_certificate`.
    """
    for place, text in (*_roots_of_pod(pod), *_roots_of_config(config)):
        for reason, said in _judge(text):
            yield reason, f"{place}: {said}"
    for rule in pod.registries:
        for location in (rule.location, *rule.mirrors):
            if location.access.certificate_pem:  # empty: there is none
                for said in _judge_client(location.access.certificate_pem):
                    place = f"registry {rule.prefix}, certificate"
                    yield "net.client_certificate", f"{place}: {said}"


def _judge_client(text: str) -> Iterator[str]:
    """Read a text as the guest's TLS does; yield why it could not present it, whatever its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(_CIPHERS)
    key = generate_private_key(SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with NamedTemporaryFile() as file:
        file.write(text.encode() + b"\n" + pem)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            if error.reason not in MISMATCHES:  # it has taken the certificate by then
                weak = error.reason in _WEAK
                yield error.reason.lower().replace("_", " ") if weak else "not PEM certificates"


def _trust(text: str) -> ssl.SSLContext:
    # Text around certificates may have any letters; `cadata` must not.
    ascii_text = text.encode("ascii", "replace").decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ascii_text)
    return context


def _roots_of_pod(pod: PodManifest) -> Iterator[tuple[str, str]]:
    for image in pod.images:
        yield f"image {image.name}, ca", image.ca_pem
    for rule in pod.registries:
        for location in (rule.location, *rule.mirrors):
            if location.access.ca_pem:  # empty: the image's own
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
    """Read a text as the guest's TLS does; yield what is wrong with it."""
    try:
        roots = _trust(text).get_ca_certs()
    except (ssl.SSLError, ValueError):
        yield "net.roots", "not PEM certificates"
        return
    if not roots:
        said = "a certificate, but not an authority's (is it the server's own?)"
        yield "net.roots", said
        return
    ends = [str(root["notAfter"]) for root in roots]
    if all(ssl.cert_time_to_seconds(end) < time.time() for end in ends):
        yield "net.certificate_time", f"expired on {' and '.join(ends)}"
