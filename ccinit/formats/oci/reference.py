"""An image reference that names exactly one content: `host[:port]/repository@sha256:…`.

Grammar of distribution-spec ("Pulling manifests", `<name>`), narrowed: the host is spelled out and
the digest is required, so there is no default registry, no tag and no short name to resolve. An
IPv6 address stands in brackets, as in a URL (RFC 3986, section 3.2.2). `oci.image` parses what the
digest names (an index or a manifest); `pull.registry` fetches it.
"""

from collections.abc import Sequence

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.alphabet import DIGITS, LOWERCASE
from ccinit.formats.encoding.digest import Digest, parse_digest
from ccinit.formats.encoding.hexadecimal import HEX_DIGITS
from ccinit.values import frozen

MAX_REFERENCE_BYTES = 512
MAX_NAME_BYTES = 255
"""Host, slash and repository together: what registries and clients agree to store."""

HTTPS_PORT = 443

DOCKER_HUB = "docker.io"
OLD_DOCKER_HUB = "index.docker.io"
DOCKER_HUB_REGISTRY = "registry-1.docker.io"
"""The only registry that has another name in references than where it answers."""

OFFICIAL_NAMESPACE = "library"
"""Of Docker Hub's images whose names have no slash."""

_MAX_LABEL_BYTES = 63
_MAX_PORT = 65_535
_ALPHANUMERIC = frozenset(LOWERCASE + DIGITS)
_LABEL = _ALPHANUMERIC | {"-"}
_V4_NUMBERS, _MAX_V4_NUMBER, _MAX_V4_DIGITS = 4, 255, 3
_V6_GROUPS, _MAX_GROUP_DIGITS = 8, 4
_SEPARATORS = frozenset({".", "_", "__"})


@frozen
class ImageReference:
    """Where an image is and which one it is; `host` has no brackets."""

    host: str
    port: int | None
    repository: str
    digest: Digest

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as it stands in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The reference as it was written."""
        return f"{self.authority}/{self.repository}@{self.digest}"


def parse_image_reference(text: str) -> ImageReference:
    """Parse `host[:port]/repository@sha256:<hex>`.

    Raises:
        FormatError: `reference.digest`, `reference.host`, `reference.port`,
            `reference.repository`, `reference.tag` or `reference.form`.
        LimitExceededError: `reference.length`.
    """
    if len(text) > MAX_REFERENCE_BYTES:
        detail = f"expected at most {MAX_REFERENCE_BYTES} characters, found {len(text)}"
        raise LimitExceededError("reference.length", detail)
    name, at, digest_text = text.partition("@")
    if not at:
        raise FormatError("reference.digest", "an image is named by digest; a tag is not enough")
    digest = parse_digest(digest_text, "reference.digest")
    authority, slash, repository = name.partition("/")
    if not slash:
        raise FormatError("reference.form", "expected host[:port]/repository@sha256:…")
    if len(name) > MAX_NAME_BYTES:
        raise LimitExceededError("reference.length", f"name longer than {MAX_NAME_BYTES} bytes")
    host, port = _parse_authority(authority, "reference.host", "reference.port")
    if ":" in repository:
        raise FormatError("reference.tag", "a tag beside a digest names nothing")
    check_repository(repository, "reference.repository")
    return ImageReference(
        host=host,
        port=port,
        repository=repository,
        digest=digest,
    )


def check_location(text: str, reason: str) -> None:
    """Check `host[:port][/path]`, with which a reference can begin.

    Raises:
        FormatError: with `reason`.
    """
    authority, slash, path = text.partition("/")
    _parse_authority(authority, reason, reason)
    if slash:
        check_repository(path, reason)


def check_domain(text: str, reason: str) -> None:
    """Check a DNS name in lower case, or an IPv4 address; a name may be one label.

    Raises:
        FormatError: with `reason`.
    """
    labels = text.split(".")
    for label in labels:
        wrong = not label or len(label) > _MAX_LABEL_BYTES or not _LABEL.issuperset(label)
        if wrong or label[0] == "-" or label[-1] == "-":
            raise FormatError(reason, f"{text[:80]!r} is not a lower-case host name")
    check_numbers(labels, reason)


def check_numbers(labels: Sequence[str], reason: str) -> None:
    """Refuse four numbers that are no IPv4 address; whoever dials takes them for one.

    Raises:
        FormatError: with `reason`.
    """
    if len(labels) != _V4_NUMBERS or not all(map(str.isdigit, labels)):
        return
    for label in labels:
        if len(label) > _MAX_V4_DIGITS or int(label) > _MAX_V4_NUMBER or str(int(label)) != label:
            raise FormatError(reason, f"{'.'.join(labels)[:80]!r} is not an IPv4 address")


def split_bracketed(text: str, reason: str) -> tuple[str, str, str]:
    """Return address, colon and port of `[address]` or `[address]:port`, whose port is any text.

    Raises:
        FormatError: with `reason`, it is not an IPv6 address.
    """
    address, bracket, rest = text.removeprefix("[").partition("]")
    if not bracket or (rest and rest[0] != ":"):
        raise FormatError(reason, f"{text[:80]!r} is not an [address]:port")
    _check_address6(address, reason)
    return address, rest[:1], rest[1:]


def _check_address6(text: str, reason: str) -> None:
    """Check a form of RFC 4291, section 2.2: lower case, no dotted IPv4 part, no zone."""
    before, gap, after = text.partition("::")
    groups = [group for side in (before, after) if side for group in side.split(":")]
    is_full = len(groups) < _V6_GROUPS if gap else len(groups) == _V6_GROUPS
    are_groups = all(
        0 < len(group) <= _MAX_GROUP_DIGITS and HEX_DIGITS.issuperset(group) for group in groups
    )
    if not is_full or not are_groups:
        raise FormatError(reason, f"{text[:80]!r} is not a lower-case IPv6 address")


def _parse_authority(text: str, host_reason: str, port_reason: str) -> tuple[str, int | None]:
    """Parse `host[:port]`; a single label must be `localhost`, as registries agree."""
    if text.startswith("["):
        host, colon, port = split_bracketed(text, host_reason)
        return host, parse_port(port, port_reason) if colon else None
    host, colon, port = text.partition(":")
    if "." not in host and host != "localhost":
        raise FormatError(host_reason, f"{host[:80]!r} is not a host name with a dot")
    check_domain(host, host_reason)
    return host, parse_port(port, port_reason) if colon else None


def parse_port(text: str, reason: str) -> int:
    """Parse a port, 1 to 65535, without leading zeros.

    Raises:
        FormatError: with `reason`.
    """
    if not text.isascii() or not text.isdigit() or text[0] == "0" or len(text) > 5:
        raise FormatError(reason, f"{text[:10]!r} is not a port")
    port = int(text)
    if port > _MAX_PORT:
        raise FormatError(reason, f"{port} is not a port")
    return port


def check_repository(repository: str, reason: str) -> None:
    """Check a `<name>` of distribution-spec: components between slashes.

    Raises:
        FormatError: with `reason`.
    """
    for component in repository.split("/"):
        _check_component(component, reason)


def _check_component(component: str, reason: str) -> None:
    """Check runs of letters and digits, separated by a dot, one or two underscores, or hyphens."""
    separator = ""
    seen = False
    for character in component:
        if character in _ALPHANUMERIC:
            if separator and not seen:
                break
            if separator and separator not in _SEPARATORS and set(separator) != {"-"}:
                break
            separator = ""
            seen = True
        elif character in "._-":
            separator += character
        else:
            break
    else:
        if seen and not separator:
            return
    raise FormatError(reason, f"{component[:80]!r} is not a repository component")
