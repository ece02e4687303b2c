"""Where a registry may redirect its client: https only, and to no host near the pod.

A redirect to an address literal or a local name would let the operator of the registry (or its
mirror) reach services that only the guest can reach; only the registry's own host is exempt.
"""

from urllib.parse import urljoin, urlsplit

from ccinit.errors import PeerError

MAX_REDIRECTS = 3


def follow_redirect(url: str, location: str | None, registry_host: str) -> str:
    """Return the URL that a redirect leads to.

    Args:
        url: of the request.
        location: the header of the reply.
        registry_host: may be an address or local name itself.

    Raises:
        PeerError: `registry.redirect`.
    """
    if not location:
        raise PeerError("registry.redirect", "a redirect that leads nowhere")
    try:
        target = urlsplit(urljoin(url, location))
        port = target.port
    except ValueError as error:
        raise PeerError("registry.redirect", "a redirect to no URL") from error
    host = target.hostname or ""
    is_plain = target.scheme == "https" and target.username is None and host.isascii()
    if not is_plain or (host != registry_host and _is_local(host)):
        raise PeerError("registry.redirect", f"a redirect to {host[:80]!r}, port {port}")
    return target._replace(fragment="").geturl()


def _is_local(host: str) -> bool:
    """Whether this is an IPv4 or IPv6 literal, or a name that is not in the public DNS."""
    last = host.rpartition(".")[2]
    return ":" in host or last.isdigit() or last.startswith("0x") or last in ("", "localhost", host)
