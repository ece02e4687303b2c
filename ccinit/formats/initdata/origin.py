"""The address of a service in a document of the owner's: `https://host[:port]` and no more.

What is accepted here is what the guest's client can dial and compare with a certificate; a URL that
it could not would end the guest in ATTEST, when nobody can correct the document any more.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.alphabet import DIGITS, LETTERS
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.oci.reference import check_numbers, parse_port, split_bracketed

_SCHEME = "https://"
_MAX_URL_BYTES = 1024
_BEYOND_HOST = frozenset("/?#@\\")
_MAX_HOST_BYTES, _MAX_LABEL_BYTES = 253, 63  # RFC 1035, section 2.3.4
_LABEL = frozenset(LETTERS + DIGITS + "-_")


def read_origin(fields: Fields, where: str) -> str:
    """Read `url`.

    Raises:
        FormatError: `<where>.url`.
    """
    reason = f"{where}.url"
    url = fields.text("url", max_bytes=_MAX_URL_BYTES)
    authority = url.removeprefix(_SCHEME)
    if authority in ("", url):
        raise FormatError(reason, "expected https://host[:port]")
    if not _BEYOND_HOST.isdisjoint(authority):
        raise FormatError(reason, "expected https://host[:port] without a path or a user")
    if authority.startswith("["):
        _, colon, port = split_bracketed(authority.lower(), reason)
    else:
        host, colon, port = authority.partition(":")
        _check_host(host, reason)
    if colon:
        parse_port(port, reason)
    return url


def _check_host(host: str, reason: str) -> None:
    """Check a name, which may be one label and end with a dot, or an IPv4 address."""
    labels = host.removesuffix(".").split(".")
    are_labels = all(
        0 < len(label) <= _MAX_LABEL_BYTES and _LABEL.issuperset(label) for label in labels
    )
    if not are_labels or len(host) > _MAX_HOST_BYTES:
        raise FormatError(reason, f"{host[:80]!r} is not a host name")
    check_numbers(labels, reason)
