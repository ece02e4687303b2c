"""A client for a cloud's metadata service: plain HTTP, to one host and no other.

The service is part of the host that the guest distrusts, so TLS would prove nothing. Callers trust
only what a third party has signed.
"""

import ssl

from ccinit.net.http import HttpClient
from ccinit.net.stream import Dial, dial_tcp


def metadata_client(host: str, *, dial: Dial = dial_tcp) -> HttpClient:
    """Return a client that speaks plain HTTP to `host`, and does not speak to others.

    Args:
        host: as written in URLs, usually an address.
        dial: how to reach a host and port.
    """
    # It has no roots: a connection to any other host fails at the first certificate.
    return HttpClient(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), dial=dial, plain_host=host)
