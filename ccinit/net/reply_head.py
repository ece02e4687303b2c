"""What the head of a reply says before a byte of its body is taken (RFC 9110, RFC 9112).

The body of a success has to be plain, and to say where it ends, within its cap. Of a refusal the
status counts, and a body of another kind is only left unread: load balancers answer 503 with a page
that ends with the connection, and other servers with a large one, or one that they have compressed.
"""

import httpx

from ccinit.errors import CcinitError, LimitExceededError, PeerError

_STATUSES = range(200, 600)  # RFC 9110 section 15; of 1xx only an unsolicited 101 gets here
_WITHOUT_BODY = (204, 304)
_NO_CODINGS = frozenset({"", "identity", "aws-chunked"})
"""`aws-chunked` is how clients of S3 frame uploads. Stores that keep it as the object's coding, as
Ceph's did until 2025, name it with every download, which is not framed so."""
_MAX_LENGTH_DIGITS = 15


def verify_head(response: httpx.Response, max_header_bytes: int) -> None:
    """Check what holds for every reply.

    Raises:
        PeerError: `net.protocol`, not a status; `net.unframed`, its body ends in two ways.
        LimitExceededError: `net.headers`.
    """
    if response.status_code not in _STATUSES:
        raise PeerError("net.protocol", f"a reply has status {response.status_code}")
    header_bytes = sum(len(name) + len(value) for name, value in response.headers.raw)
    if header_bytes > max_header_bytes:
        raise LimitExceededError("net.headers", f"more than {max_header_bytes} bytes")
    if "content-length" in response.headers and "transfer-encoding" in response.headers:
        # An intermediary may have seen a different end (RFC 9112 section 6.3).
        raise PeerError("net.unframed", "the reply says in two ways where it ends")


def find_body_fault(response: httpx.Response, max_body_bytes: int) -> CcinitError | None:
    """Return why the body may not be taken, or None: `net.encoding`, `net.unframed`, `net.body`."""
    headers = response.headers
    codings = headers.get("content-encoding", "").lower().split(",")
    if not _NO_CODINGS.issuperset(coding.strip() for coding in codings):
        return PeerError("net.encoding", "the reply has a content coding that was not asked for")
    if "transfer-encoding" in headers or response.status_code in _WITHOUT_BODY:
        return None
    if "content-length" not in headers:  # the body would end with the connection
        return PeerError("net.unframed", "the reply does not say where it ends")
    length = headers["content-length"]
    if len(length) > _MAX_LENGTH_DIGITS or int(length) > max_body_bytes:
        return LimitExceededError("net.body", f"more than {max_body_bytes} bytes announced")
    return None


def verify_range(response: httpx.Response, offset: int) -> None:
    """Raises: PeerError: `net.range`, the body does not begin at `offset`."""
    if (response.status_code == 206) != bool(offset):
        raise PeerError("net.range", f"asked from byte {offset}, got status {response.status_code}")
    content_range = response.headers.get("content-range", "")
    if offset and not content_range.startswith(f"bytes {offset}-"):
        raise PeerError("net.range", f"asked from byte {offset}, got another range")
