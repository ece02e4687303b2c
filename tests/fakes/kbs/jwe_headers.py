"""What a hostile KBS may write into a reply's header instead of the one choice that is accepted."""

import pytest

OTHER_CHOICES = (
    pytest.param({"alg": "RSA1_5"}, "jwe.alg", id="RSA1_5"),
    pytest.param({"alg": "RSA-OAEP-256"}, "jwe.alg", id="RSA-OAEP-256"),
    pytest.param({"alg": "dir"}, "jwe.alg", id="dir"),
    pytest.param({"alg": "none"}, "jwe.alg", id="none"),
    pytest.param({"enc": "A128GCM"}, "jwe.enc", id="A128GCM"),
    pytest.param({"enc": "A256CBC-HS512"}, "jwe.enc", id="A256CBC-HS512"),
    pytest.param({"zip": "DEF"}, "jwe.header.members", id="zip"),
    pytest.param({"crit": ["exp"]}, "jwe.header.members", id="crit"),
    pytest.param({"jku": "https://host/keys"}, "jwe.header.members", id="jku"),
)
"""Changes of members, and the reason by which the guest refuses each."""
