"""Where a registry may send its client, and where not."""

import pytest

from ccinit.errors import PeerError
from ccinit.pull.registry.redirect import follow_redirect

HOST = "registry.example"
URL = f"https://{HOST}/v2/team/app/blobs/sha256:00"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://cdn.example/x?signature=1", "https://cdn.example/x?signature=1"),
        ("https://CDN.example:8443/x", "https://CDN.example:8443/x"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("/elsewhere", f"https://{HOST}/elsewhere"),
        ("?again=1", f"{URL}?again=1"),
        ("https://cdn.example/x#part", "https://cdn.example/x"),
        ("https://2130706433.example/x", "https://2130706433.example/x"),
    ],
)
def test_redirect_to_a_public_name_is_followed(location: str, expected: str) -> None:
    assert follow_redirect(URL, location, HOST) == expected


@pytest.mark.parametrize("host", ["192.0.2.7", "::1", "localhost", "registry", "127.1"])
def test_registrys_own_host_may_be_an_address_or_a_local_name(host: str) -> None:
    literal = f"[{host}]" if ":" in host else host
    location = f"https://{literal}:5000/x"
    assert follow_redirect(f"https://{literal}:5000/v2/", location, host) == location
    for other in ("127.0.0.1", "localhost.", "[fe80::1]", "other"):
        assert refusal(f"https://{other}/x", host) == "registry.redirect"


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "http://cdn.example/x",
        "http:/x",
        "ftp://cdn.example/x",
        "file:///etc/passwd",
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://cdn.0x7f/x",
        "https://[::1]/x",
        "https://[::ffff:192.0.2.1]/x",
        "https://[fe80::1%25eth0.example]/x",
        "https://localhost/x",
        "https://LOCALHOST/x",
        "https://a.localhost/x",
        "https://localhost./x",
        "https://intranet/x",
        "https://intranet./x",
        "https://user:word@cdn.example/x",
        "https://user@cdn.example/x",
        "https://cdn.example:99999/x",
        "https://cdn.ex\u0430mple/x",
        "https://[cdn.example/x",
    ],
)
def test_redirect_to_anywhere_else_is_refused(location: str | None) -> None:
    assert refusal(location) == "registry.redirect"


def refusal(location: str | None, host: str = HOST) -> str:
    with pytest.raises(PeerError) as refused:
        follow_redirect(URL, location, host)
    return refused.value.reason
