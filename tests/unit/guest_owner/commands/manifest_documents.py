"""Documents of a pod under a real authority, as `guest-owner manifest` is given them."""

import re

from tests.fakes.documents.guest import CONFIG as CONFIG_WITHOUT_ROOTS
from tests.fakes.documents.guest import POD as POD_WITHOUT_ROOTS
from tests.fakes.network.tls_server import make_authority

AUTHORITY = make_authority()
CA = AUTHORITY.pem


def with_roots(text: str) -> str:
    """Put a real authority in the place of the fakes' own."""
    text = text.replace('ca = "-----BEGIN CERTIFICATE-----"', f"ca = '''{CA}'''")
    return re.sub("-----BEGIN CERTIFICATE-----\n..==\n-----END CERTIFICATE-----\n", CA, text)


CONFIG, POD = map(with_roots, (CONFIG_WITHOUT_ROOTS, POD_WITHOUT_ROOTS))
