"""Put a resource into a KBS over Trustee's administration interface.

`POST /kbs/v0/resource/REPOSITORY/TYPE/TAG` with the body as it will be sent to guests, and a JWT
(RFC 7519, EdDSA) that says `role: admin`. Any status but success is an error, so that nobody pushes
an image whose key no KBS has.
"""

import http.client
import json
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.errors import ConfigError, PeerError
from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.kbs.resource_uri import ResourceUri
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped
from measured_boot.command_line.private_keys import ed25519_key
from measured_boot.command_line.tcp_address import is_resolvable

TOKEN_SECONDS: Final = 300
_TIMEOUT_SECONDS: Final = 30
_MAX_ANSWER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsAdmin:
    """An administrator of one KBS.

    Attributes:
        url: `https://host[:port]`.
        context: with the roots that may vouch for it.
        key: signs the tokens.
    """

    url: str
    context: ssl.SSLContext
    key: Ed25519PrivateKey = field(repr=False)

    def register(self, uri: ResourceUri, body: bytes) -> None:
        """Store a resource's body, replacing an older one.

        Raises:
            PeerError: `kbs.unreachable`, `kbs.status`.
        """
        target = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            target.netloc, timeout=_TIMEOUT_SECONDS, context=self.context
        )
        headers = {
            "Authorization": f"Bearer {encode_token(self.key, int(time.time()))}",
            "Content-Type": "application/octet-stream",
        }
        try:
            connection.request("POST", f"/kbs/v0/resource/{uri.path}", body, headers)
            reply = connection.getresponse()
            answer = reply.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise PeerError("kbs.unreachable", f"{self.url}: {_cause(error)}") from error
        finally:
            connection.close()
        if reply.status not in (200, 201, 204):
            text = answer.decode("ascii", "replace")
            raise PeerError("kbs.status", f"{uri}: the KBS says {reply.status}: {text}")


def open_admin(url: str, ca: Path, key: Path) -> KbsAdmin:
    """Return an administrator with the PEM files of the KBS's authority and of an Ed25519 key.

    Raises:
        ConfigError: `kbs.admin_key`, `kbs.ca`; as `require_origin`.
    """
    require_origin(url)
    private = ed25519_key(read_capped(key, MAX_KEY_BYTES), key, "kbs.admin_key")
    read_capped(ca, MAX_KEY_BYTES)  # names the file if it cannot be read, which ssl does not
    # Not `create_default_context`: that of Python 3.13 refuses what guests accept, a root without
    # key usage as `openssl req -x509` makes it, and accepts what they refuse, the server's own one.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and name
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError("kbs.ca", f"{ca} holds no certificate in PEM") from error
    return KbsAdmin(url=url, context=context, key=private)


def require_origin(url: str) -> None:
    """Refuse what is not a server's name or address, with or without a port.

    Raises:
        ConfigError: `kbs.url`.
    """
    if not _is_origin(url):
        raise ConfigError("kbs.url", f"expected https://host[:port] without a path, found {url!r}")


def _cause(error: OSError | http.client.HTTPException) -> str:
    """Return what went wrong in words, without the `[Errno 111]` that Python puts before them."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _is_origin(url: str) -> bool:
    """Whether it is a server's name or address, with or without a port."""
    try:
        target = urlsplit(url)
        port = target.port
    except ValueError:  # brackets without an address, a port that is no number
        return False
    host = target.hostname or ""
    names_host = bool(host) and host.isascii() and is_resolvable(host)
    plain = target.username is None and not any(one.isspace() for one in url)
    beyond = target.path.strip("/") or target.query or target.fragment
    return target.scheme == "https" and names_host and plain and port != 0 and not beyond


def encode_token(key: Ed25519PrivateKey, now: int) -> str:
    """Return an administrator's token that is valid from `now` on, seconds since 1970."""
    header = {"alg": "EdDSA", "typ": "JWT"}
    claims = {"role": "admin", "iat": now, "nbf": now, "exp": now + TOKEN_SECONDS}
    text = ".".join(encode_base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encode_base64url(key.sign(text.encode()))}"
