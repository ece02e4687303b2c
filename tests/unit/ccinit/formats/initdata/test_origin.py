"""`url` of a document: whatever is accepted can be dialled, and compared with a certificate."""

import ssl
from typing import Final

import httpx
import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.initdata.origin import read_origin

LABEL: Final = "a" * 63

TAKEN: Final = (
    "kbs", "KBS.Example", "kbs.example.", "kbs_svc.pod-1", "xn--e1afmkfd.example", "192.0.2.7",
    "[::1]", "[2001:DB8::7]", "1.2.3", "256.1.1.1.example", LABEL, ".".join([LABEL] * 3),
    ".".join([*[LABEL] * 3, "a" * 61]),
)  # fmt: skip
PORTS: Final = ("", ":1", ":443", ":65535")
REFUSED: Final = {
    "port-name": "kbs:notaport", "port-0": "kbs:0", "port-65536": "kbs:65536", "no-port": "kbs:",
    "two-ports": "kbs:80:90", "port-sign": "kbs:+1", "port-arabic": "kbs:\u0661",
    "no-host": ":80", "empty-label": "kbs..example", "leading-dot": ".kbs", "dot": ".",
    "long-label": "a" * 64, "long-name": ".".join([*[LABEL] * 3, "a" * 62]), "escape": "kbs%41",
    "blank": "kbs example", "line": "kbs\n", "letter": "kbs\u00e4", "mark": "kbs;x",
    "v4-range": "300.0.2.7", "v4-zero": "192.0.2.07", "v6-open": "[::1", "v6-bare": "::1",
    "v6-letter": "[::g]", "v6-zone": "[fe80::1%25eth0]", "v6-behind": "[::1]x:1",
    "v6-no-port": "[::1]:", "path": "kbs/", "user": "u@kbs", "query": "kbs?x", "fragment": "kbs#x",
}  # fmt: skip


def read(url: str) -> str:
    with Fields({"url": url}, "x") as fields:
        return read_origin(fields, "x")


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("host", TAKEN)
def test_origin_that_is_taken_is_one_for_the_client(host: str, port: str) -> None:
    url = f"https://{host}{port}"
    assert read(url) == url
    parsed = httpx.URL(url)
    assert parsed.netloc.decode().lower() == f"{host.lower()}{port.removesuffix(':443')}"
    ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=parsed.raw_host.decode()
    )


@pytest.mark.parametrize("authority", REFUSED.values(), ids=REFUSED)
def test_origin_with_which_no_client_could_begin_is_refused(authority: str) -> None:
    with pytest.raises(FormatError) as refused:
        read(f"https://{authority}")
    assert refused.value.reason == "x.url"
