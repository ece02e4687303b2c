"""One image's sources, tried in their order: mirrors, then the registry itself.

A mirror is used if it quickly delivers what the digest names, down to the manifest for this guest;
then the whole image comes from it. Otherwise it is skipped, whatever the cause: a mirror can deny
an image but not forge it. Each source has its own roots, client certificate and proxy, and the
owner's credentials are looked up under its own name, so that no source learns another's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.credentials import find_credential
from ccinit.formats.oci.image import Manifest
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import Access, PullSource, plan_sources, rule_keys
from ccinit.kernel.clock import boottime
from ccinit.net.http import HttpClient
from ccinit.net.proxy import dial_through
from ccinit.net.stream import dial_tcp
from ccinit.net.tls import pinned_context, present_certificate
from ccinit.pull.documents import verify_pinned, verify_selected
from ccinit.pull.messages.fetch import AUTH_PIPE, PullRequest, SourceFailed, key_pipe
from ccinit.pull.registry.client import Registry, RegistryLimits
from ccinit.secret import Secret
from ccinit.values import frozen, replace

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
    for position, source in enumerate(sources[:-1]):
        share_seconds = (end - boottime()) / (len(sources) - position)
        try:
            http = _probe(source, secrets, share_seconds)
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


def fetch_documents(registry: Registry, pinned: Digest) -> tuple[tuple[bytes, ...], Manifest]:
    """Return the documents that lead to the manifest in use, and that.

    Raises:
        CcinitError: `registry.…`, `net.…`, `pull.…`, `manifest.…`.
    """
    reply = registry.manifest(pinned)
    found = verify_pinned(reply.body, pinned, reply.header("content-type"))
    if isinstance(found, Manifest):
        return (reply.body,), found
    index = reply.body
    reply = registry.manifest(found.digest)
    manifest = verify_selected(reply.body, found, reply.header("content-type"))
    return (index, reply.body), manifest


def _probe(source: PullSource, secrets: _Secrets, share_seconds: float) -> HttpClient:
    """Return a client of a mirror that has delivered the manifest; its connections stay open.

    A mirror cannot use up more than its share of the time: the last source needs some, too.
    """
    limits = replace(_MIRROR, total_seconds=min(_MIRROR.total_seconds, share_seconds))
    http = _client(source.access, secrets)
    try:
        fetch_documents(_registry(http, source, secrets, limits), source.reference.digest)
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
