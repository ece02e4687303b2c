"""Registry authentication: challenges, token services, and who may get the owner's credentials.

distribution-spec leaves authentication to RFC 7617 (Basic) and Docker's token scheme (Bearer). A
credential goes only to the registry itself or to a token service that belongs to it, never wherever
else a reply points (CVE-2020-15157). Sending is left to `client`.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode, urlsplit

from ccinit.errors import FormatError, PeerError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.oci.credentials import Credential
from ccinit.formats.oci.reference import HTTPS_PORT, ImageReference
from ccinit.values import field, frozen

_MAX_CHALLENGE_BYTES = 4096
_MAX_TOKEN_BYTES = 64 * 1024
MAX_TOKEN_REPLY_BYTES = 1 << 20
_CLIENT = "ccinit"
_FORM = (("content-type", "application/x-www-form-urlencoded"),)


@frozen
class BasicChallenge:
    """A 401 reply asks for a password."""


@frozen
class BearerChallenge:
    """A 401 reply asks for a token from the service at `realm`; `service` may be empty."""

    realm: str
    service: str


Challenge = BasicChallenge | BearerChallenge


@frozen
class TokenRequest:
    """A GET, or with a body a POST; headers and body may hold a secret."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def method(self) -> str:
        """What to send."""
        return "POST" if self.body else "GET"


def select_challenge(headers: Sequence[str]) -> Challenge:
    """Return which of the challenges of a 401 reply to answer: a token's before a password's.

    Args:
        headers: each `WWW-Authenticate` of the reply, with one challenge or several (RFC 9110
            section 11.6.1); those of other schemes are passed over.

    Raises:
        PeerError: `registry.challenge`, there is none of a known scheme, or it is malformed.
    """
    challenges = [challenge for header in headers for challenge in _parse_challenges(header)]
    for scheme, parameters in challenges:
        if scheme == "bearer":
            if not parameters.get("realm"):
                raise PeerError("registry.challenge", "a bearer challenge without a realm")
            return BearerChallenge(realm=parameters["realm"], service=parameters.get("service", ""))
    if any(scheme == "basic" for scheme, _parameters in challenges):
        return BasicChallenge()
    offered = ", ".join(header.strip().partition(" ")[0][:40] for header in headers[:4])
    raise PeerError("registry.challenge", f"neither Bearer nor Basic is offered, but {offered!r}")


def _parse_challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    """Read `scheme name="value", …, scheme …`; a value has no escapes, as registries write none.

    The last word before an equals sign is a parameter's name, earlier ones are schemes, in lower
    case. A parameter of an unknown scheme may be taken for a scheme; that is harmless.
    """
    if len(text) > _MAX_CHALLENGE_BYTES:
        raise PeerError("registry.challenge", f"longer than {_MAX_CHALLENGE_BYTES} bytes")
    challenges: list[tuple[str, dict[str, str]]] = []
    while text:
        before, equals, rest = text.partition("=")
        words = before.lower().replace(",", " ").split()
        name = words.pop() if equals and words else ""
        challenges += [(word, {}) for word in words]
        if not equals:
            break
        value, text = _cut_value(rest.lstrip())
        if not name or not challenges:
            raise PeerError("registry.challenge", "a value without a name or a scheme")
        parameters = challenges[-1][1]
        if name in parameters:
            raise PeerError("registry.challenge", "a parameter occurs twice")
        parameters[name] = value
    return challenges


def _cut_value(text: str) -> tuple[str, str]:
    """Return a parameter's value, without its quotes, and what follows it."""
    if not text.startswith('"'):
        value, _comma, rest = text.partition(",")
        return value.strip(), rest
    value, quote, rest = text[1:].partition('"')
    if not quote:
        raise PeerError("registry.challenge", "an open quote")
    return value.strip(), rest


def token_request(
    challenge: BearerChallenge, reference: ImageReference, credential: Credential | None
) -> TokenRequest:
    """Return how to request a token for pulling `reference`, and nothing more.

    The scope is what this image needs, whatever the challenge says. A password goes by GET, as in
    Docker's scheme; an identity token by POST, as in OAuth 2 (RFC 6749 section 6).

    Raises:
        PeerError: `registry.realm`, the token service does not belong to the registry.
    """
    try:
        realm = urlsplit(challenge.realm)
        has_port = realm.port not in (None, HTTPS_PORT, reference.port)
    except ValueError as error:
        raise PeerError("registry.realm", "the realm is not a URL") from error
    same = realm.hostname == reference.host
    if realm.scheme != "https" or realm.username is not None or realm.fragment or realm.query:
        raise PeerError("registry.realm", "the realm is not a plain https URL")
    if not same and (has_port or not _is_sibling(realm.hostname or "", reference.host)):
        raise PeerError("registry.realm", f"{(realm.hostname or '')[:80]!r} is another origin")
    url = f"https://{realm.netloc}{realm.path or '/'}"
    query = [("scope", f"repository:{reference.repository}:pull")]
    if challenge.service:
        query.insert(0, ("service", challenge.service))
    if credential is not None and credential.identity_token:
        grant = ("refresh_token", credential.identity_token)
        form = [("grant_type", "refresh_token"), grant, ("client_id", _CLIENT), *query]
        return TokenRequest(url=url, headers=_FORM, body=urlencode(form).encode())
    headers = () if credential is None else (("authorization", credential.authorization()),)
    return TokenRequest(url=f"{url}?{urlencode(query)}", headers=headers, body=b"")


def _is_sibling(host: str, registry: str) -> bool:
    """Whether both are in one domain: `auth.docker.io` and `registry-1.docker.io`."""
    domain = registry.partition(".")[2]
    is_address = registry.replace(".", "").isdigit()
    return "." in domain and not is_address and (host == domain or host.endswith("." + domain))


def parse_token(data: bytes) -> str:
    """Return the `Authorization` value from a token service's reply.

    Raises:
        FormatError: `token.…`.
    """
    value = parse_json(data, "token", MAX_TOKEN_REPLY_BYTES)
    if not isinstance(value, Mapping):
        raise FormatError("token.form", "expected an object")
    token = value.get("token") or value.get("access_token")
    if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN_BYTES:
        raise FormatError("token.form", "expected a token")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise FormatError("token.form", "a token with blanks or control characters")
    return f"Bearer {token}"
