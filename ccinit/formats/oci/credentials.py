"""Credentials for registries: the containers-auth.json that podman and docker write.

See containers-auth.json(5) and docker's config.json. What a credential is sent to is decided
elsewhere (`ccinit.pull.registry.authentication`).
"""

from collections.abc import Iterator, Mapping

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, encode_base64, parse_json
from ccinit.formats.oci.reference import (
    DOCKER_HUB,
    DOCKER_HUB_REGISTRY,
    OLD_DOCKER_HUB,
    ImageReference,
)
from ccinit.values import field, frozen

_MAX_DOCUMENT_BYTES = 64 * 1024
_DOCKER_HUB_NAMES = frozenset((DOCKER_HUB, DOCKER_HUB_REGISTRY, OLD_DOCKER_HUB))
"""`docker login` writes `https://index.docker.io/v1/`."""


@frozen
class Credential:
    """User and password for one registry, or a token that its token service exchanges.

    Attributes:
        identity_token: if not empty, the password is not used.
    """

    user_password: str = field(repr=False)
    identity_token: str = field(repr=False, default="")

    def authorization(self) -> str:
        """Return the Basic `Authorization` value."""
        return "Basic " + encode_base64(self.user_password.encode())


def find_credential(document: bytes, reference: ImageReference) -> Credential | None:
    """Return the credential for an image, by the longest matching prefix of its name, or None.

    Args:
        document: the owner's; empty means none.
        reference: where the image is to come from.

    Raises:
        FormatError: `auth.…`, the document is malformed.
    """
    if not document:
        return None
    value = parse_json(document, "auth", _MAX_DOCUMENT_BYTES)
    auths = value.get("auths") if isinstance(value, Mapping) else None
    if not isinstance(auths, Mapping):
        raise FormatError("auth.form", "expected an object with auths")
    for name in _names(reference):
        if name in auths:
            return _read_entry(auths[name])
    wanted = _registry(reference.authority)
    return next((_read_entry(auths[key]) for key in auths if _registry(key) == wanted), None)


def _names(reference: ImageReference) -> Iterator[str]:
    """Yield the keys that a credential may stand under, the most specific first."""
    hub = reference.authority == DOCKER_HUB_REGISTRY
    name = f"{DOCKER_HUB if hub else reference.authority}/{reference.repository}"
    while name:
        yield name
        name = name.rpartition("/")[0]


def _registry(key: str) -> str:
    """Return the registry that a key names: for a URL, as docker does, its host."""
    is_url = key.startswith(("https://", "http://"))
    name = key.partition("://")[2].partition("/")[0] if is_url else key
    return DOCKER_HUB if name in _DOCKER_HUB_NAMES else name


def _read_entry(entry: JsonValue) -> Credential | None:
    """Return None for an entry without a credential: docker keeps it in a helper."""
    if not isinstance(entry, Mapping):
        raise FormatError("auth.form", "expected an object for each registry")
    token = entry.get("identitytoken", "")
    if not isinstance(token, str) or not token.isascii():
        raise FormatError("auth.identitytoken", "expected a token")
    if token:
        return Credential(user_password="", identity_token=token)
    if not entry.get("auth"):
        return None
    return _credential(decode_base64(entry.get("auth"), "auth.base64"))


def _credential(data: bytes) -> Credential:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError("auth.form", "a credential is not text") from error
    user, colon, password = text.partition(":")
    # A password may be as long as a file: with the user `_json_key`, Google's is a key file.
    lines = (user, *password.splitlines())
    if not colon or not all(line.isprintable() for line in lines):
        raise FormatError("auth.form", "expected user:password")
    return Credential(user_password=text)
