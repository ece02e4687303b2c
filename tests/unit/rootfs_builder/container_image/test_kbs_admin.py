"""A KBS's administrator: the token, the request, and every answer but success refused."""

import base64
import contextlib
import http.client
import json
import ssl
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.errors import ConfigError, PeerError
from ccinit.formats.kbs.resource_uri import ResourceUri
from rootfs_builder.container_image.kbs_admin import (
    TOKEN_SECONDS,
    KbsAdmin,
    encode_token,
    open_admin,
)
from tests.fakes.network.tls_server import (
    Authority,
    Key,
    identity_pem,
    make_authority,
    server_context,
)

KEY = Ed25519PrivateKey.generate()
URI = ResourceUri("ccinit", "demo", "image-key")


class Connection:
    """Plays the KBS."""

    status = 200
    fails = False
    requests: list[tuple[str, str, bytes, dict[str, str]]]

    def __init__(self, netloc: str, timeout: int, context: object) -> None:
        assert (netloc, context) == ("kbs.example:8443", "context")
        assert timeout > 0

    def request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        if Connection.fails:
            raise ConnectionRefusedError(111, "Connection refused")
        REQUESTS.append((method, path, body, headers))

    def getresponse(self) -> "Connection":
        return self

    def read(self, most: int) -> bytes:
        return b"because"[:most]

    def close(self) -> None:
        """Closed."""


REQUESTS: list[tuple[str, str, bytes, dict[str, str]]] = []


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> KbsAdmin:
    REQUESTS.clear()
    monkeypatch.setattr(http.client, "HTTPSConnection", Connection)
    monkeypatch.setattr(Connection, "status", 200)
    monkeypatch.setattr(Connection, "fails", False)
    return KbsAdmin(url="https://kbs.example:8443", context=cast("None", "context"), key=KEY)  # type: ignore[arg-type]


def decode(part: str) -> dict[str, object]:
    value: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def test_token_names_the_role_and_is_short_lived() -> None:
    header, claims, signature = encode_token(KEY, 1000).split(".")
    assert decode(header) == {"alg": "EdDSA", "typ": "JWT"}
    assert decode(claims) == {
        "role": "admin",
        "iat": 1000,
        "nbf": 1000,
        "exp": 1000 + TOKEN_SECONDS,
    }
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    KEY.public_key().verify(raw, f"{header}.{claims}".encode())


def test_resource_is_posted(admin: KbsAdmin) -> None:
    admin.register(URI, b"body")
    ((method, path, body, headers),) = REQUESTS
    assert (method, path, body) == ("POST", "/kbs/v0/resource/ccinit/demo/image-key", b"body")
    assert headers["Authorization"].startswith("Bearer ")


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 500])
def test_any_answer_but_success_is_an_error(
    admin: KbsAdmin, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Connection, "status", status)
    if status == 204:
        admin.register(URI, b"body")
        return
    with pytest.raises(PeerError) as refused:
        admin.register(URI, b"body")
    assert refused.value.reason == "kbs.status"
    assert "because" in refused.value.detail


def test_kbs_that_is_not_there_is_an_error(
    admin: KbsAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "fails", True)
    with pytest.raises(PeerError) as refused:
        admin.register(URI, b"body")
    assert refused.value.reason == "kbs.unreachable"
    assert refused.value.detail == "https://kbs.example:8443: Connection refused"


@pytest.mark.parametrize(
    ("url", "key", "reason"),
    [
        ("http://kbs.example", KEY, "kbs.url"),
        ("https://kbs.example/path", KEY, "kbs.url"),
        ("https://kbs.example?query", KEY, "kbs.url"),
        ("https://kbs.example:port", KEY, "kbs.url"),
        ("https://kbs.example:0", KEY, "kbs.url"),
        ("https://kbs.example:65536", KEY, "kbs.url"),
        ("https://kbs example", KEY, "kbs.url"),
        ("https://me@kbs.example", KEY, "kbs.url"),
        ("https://kbs.ex\u00e4mple", KEY, "kbs.url"),
        ("https://[::1", KEY, "kbs.url"),
        ("https://:8443", KEY, "kbs.url"),
        ("https://a..b", KEY, "kbs.url"),
        ("https://[::1]:8443/", KEY, "kbs.ca"),
        ("https://kbs.example", ec.generate_private_key(ec.SECP256R1()), "kbs.admin_key"),
        ("https://kbs.example", None, "kbs.admin_key"),
    ],
)
def test_url_and_key_of_another_kind_are_refused(
    tmp_path: Path, url: str, key: Ed25519PrivateKey | None, reason: str
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        b"no key"
        if key is None
        else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ConfigError) as refused:
        open_admin(url, path, path)
    assert refused.value.reason == reason


def do_handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Give each what the other says, until both have no more to say."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="kbs.example"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].version() == "TLSv1.3"


def open_with(
    folder: Path, identity: tuple[Key, x509.Certificate], *roots: Authority
) -> ssl.SSLContext:
    """Return how an administrator talks to a KBS who trusts these, or nobody but itself."""
    (folder / "key.pem").write_bytes(
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    own = identity_pem(identity).decode()
    (folder / "ca.pem").write_text("".join(one.pem for one in roots) or own)
    return open_admin("https://kbs.example", folder / "ca.pem", folder / "key.pem").context


def test_root_of_a_kbs_is_judged_as_guests_judge_it(tmp_path: Path) -> None:
    # No key usage and no identifiers, as `openssl req -x509` may leave them out.
    root = make_authority()
    kbs = root.issue(("kbs.example",))
    do_handshake(open_with(tmp_path, kbs, root), server_context(kbs))


@pytest.mark.parametrize("trusts_itself", [True, False])
def test_kbs_that_its_root_has_not_signed_is_refused(tmp_path: Path, trusts_itself: bool) -> None:  # noqa: FBT001
    kbs = make_authority().issue(("kbs.example",))
    context = open_with(
        tmp_path, kbs, *(() if trusts_itself else (make_authority(subject="another"),))
    )
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        do_handshake(context, server_context(kbs))
