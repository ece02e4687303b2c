"""One image's sources, tried in their order: mirrors, then the registry itself.

A mirror is used if it quickly delivers the manifest by its digest; then the whole image comes from
it. Otherwise it is skipped, whatever the cause: a mirror can deny an image but not forge it. Each
source has its own roots, client certificate and proxy, and the owner's credentials are looked up
under its own name, so that no source learns another's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from ccinit.errors import CcinitError
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.credentials import find_credential
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import Access, PullSource, plan_sources, rule_keys
from ccinit.kernel.clock import boottime
from ccinit.net.http import HttpClient
from ccinit.net.proxy import dial_through
from ccinit.net.stream import dial_tcp
from ccinit.net.tls import pinned_context, present_certificate
from ccinit.pull.documents import verify_digest
from ccinit.pull.messages.fetch import AUTH_PIPE, PullRequest, SourceFailed, key_pipe
from ccinit.pull.registry.client import Registry, RegistryLimits
from ccinit.secret import Secret
from ccinit.values import frozen

_MIRROR = RegistryLimits(total_seconds=30.0, wait_seconds=10.0, attempts=1)


class SourceChannel(Protocol):
    """The connection to the outside for opening a source."""

    def notify(self, notice: object, /) -> None:
        """Send a `SourceFailed`."""

    def read_secret(self, name: str, /) -> Secret:
        """Read a client's key, under its `key_pipe` name, or the credentials (`AUTH_PIPE`)."""


@frozen
class _Secrets:
    """What came by pipe: the credentials, or nothing, and the keys of client certificates."""

    auth: Secret
    keys: Mapping[ResourceUri, Secret]


@contextmanager
def open_source(request: PullRequest, channel: SourceChannel) -> Iterator[Registry]:
    """Open the first source that has the image.

    Raises:
        CcinitError: the failure of the last source.
    """
    end = boottime() + request.limits.total_seconds
    reference = parse_image_reference(request.reference)
    sources = plan_sources(request.registry, reference, request.ca_pem)
    secrets = _read_secrets(request, channel)
    for source in sources[:-1]:
        try:
            http = _probe(source, secrets)
        except CcinitError as error:
            channel.notify(SourceFailed(reference=source.reference.text, error=str(error)[:500]))
        else:
            break
    else:
        source = sources[-1]
        http = _client(source.access, secrets)
    with http:
        limits = RegistryLimits(total_seconds=end - boottime())
        yield _registry(http, source, secrets, limits)


def _probe(source: PullSource, secrets: _Secrets) -> HttpClient:
    """Return a client of a mirror that has delivered the manifest; its connections stay open."""
    http, wanted = _client(source.access, secrets), source.reference.digest
    try:
        verify_digest(_registry(http, source, secrets, _MIRROR).manifest(wanted).body, wanted)
    except BaseException:
        http.close()
        raise
    return http


def _registry(
    http: HttpClient, source: PullSource, secrets: _Secrets, limits: RegistryLimits
) -> Registry:
    credential = find_credential(secrets.auth.reveal(), source.reference)
    return Registry(http, source.reference, credential, limits)


def _read_secrets(request: PullRequest, channel: SourceChannel) -> _Secrets:
    return _Secrets(
        auth=channel.read_secret(AUTH_PIPE) if request.has_auth else Secret(b""),
        keys={
            uri: channel.read_secret(key_pipe(position))
            for position, uri in enumerate(rule_keys(request.registry))
        },
    )


def _client(access: Access, secrets: _Secrets) -> HttpClient:
    context = pinned_context(access.ca_pem, check_time=True)
    if access.key is not None:
        pem = access.certificate_pem.encode() + b"\n" + secrets.keys[access.key].reveal()
        present_certificate(context, pem, "net.client_certificate")
    return HttpClient(context, dial=dial_through(access.proxy) if access.proxy else dial_tcp)
