"""A client for a cloud's metadata service: plain HTTP, to one host and no other.

The service is part of the host that the guest distrusts, so TLS would prove nothing. Whoever asks
it believes what it says only as far as somebody else has signed it.
"""

import ssl

from ccinit.net.http import HttpClient
from ccinit.net.stream import Dial, dial_tcp


def metadata_client(host: str, *, dial: Dial = dial_tcp) -> HttpClient:
    """Return a client that speaks plain HTTP with `host`, and with others not at all.

    Args:
        host: as it stands in URLs, an address as a rule.
        dial: how to reach a host and port.
    """
    # It has no roots: a connection to anyone else would fail at the first certificate.
    return HttpClient(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), dial=dial, plain_host=host)
