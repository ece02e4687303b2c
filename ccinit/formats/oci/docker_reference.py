"""Image names as signatures and policies write them: `[host[:port]/]path[:tag][@sha256:…]`.

Docker's reference grammar with its normal form (containers/image, `docker/reference`): a name
without a host is Docker Hub's, and on Docker Hub one without a namespace is in `library/`. Two
spellings of one image are equal once parsed. `ccinit.formats.oci.reference` reads the narrower
references that a guest pulls; `ccinit.formats.signature.signed_identity` matches names.
"""

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.alphabet import DIGITS, LETTERS
from ccinit.formats.encoding.digest import Digest, parse_digest
from ccinit.formats.encoding.hexadecimal import HEX_DIGITS
from ccinit.formats.oci.reference import (
    DOCKER_HUB,
    MAX_NAME_BYTES,
    MAX_REFERENCE_BYTES,
    OFFICIAL_NAMESPACE,
    OLD_DOCKER_HUB,
    check_repository,
    split_bracketed,
)
from ccinit.values import frozen

_MAX_TAG_BYTES = 128
_IDENTIFIER_LENGTH = 64
_HOST_CHARACTERS = frozenset(LETTERS + DIGITS + ".-")
_TAG_CHARACTERS = frozenset(LETTERS + DIGITS + "_.-")


@frozen
class DockerReference:
    """A name in its normal form, with tag or digest or both or neither.

    Attributes:
        name: `host[:port]/path`.
    """

    name: str
    tag: str | None
    digest: Digest | None

    @property
    def is_name_only(self) -> bool:
        """Whether it names a repository but no image in it."""
        return self.tag is None and self.digest is None

    @property
    def text(self) -> str:
        """The normal form."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.name}{tag}{digest}"


def parse_docker_reference(text: str, reason: str) -> DockerReference:
    """Parse and normalise a reference.

    Raises:
        FormatError, LimitExceededError: with `reason`.
    """
    if len(text) > MAX_REFERENCE_BYTES:
        raise LimitExceededError(reason, f"longer than {MAX_REFERENCE_BYTES} characters")
    if len(text) == _IDENTIFIER_LENGTH and HEX_DIGITS.issuperset(text):
        raise FormatError(reason, "64 hex digits are an image's identifier and no name")
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text, reason) if at else None
    path, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon:
        _check_tag(tag, reason)
    return DockerReference(
        name=_normal_name(f"{path}{slash}{last}", reason),
        tag=tag if colon else None,
        digest=digest,
    )


def parse_name_prefix(text: str, reason: str) -> str:
    """Return `host[:port][/path]`, the beginning of names, if it has that form.

    Raises:
        FormatError: with `reason`.
    """
    host, slash, path = text.partition("/")
    _check_host(host, reason)
    if slash:
        check_repository(path, reason)
    return text


def _normal_name(name: str, reason: str) -> str:
    host, slash, path = name.partition("/")
    if not slash or not _is_host(host):
        host, path = DOCKER_HUB, name
    if host == OLD_DOCKER_HUB:
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in path:
        path = f"{OFFICIAL_NAMESPACE}/{path}"
    _check_host(host, reason)
    check_repository(path, reason)
    normal = f"{host}/{path}"
    if len(normal) > MAX_NAME_BYTES:
        raise LimitExceededError(reason, f"a name longer than {MAX_NAME_BYTES} bytes")
    return normal


def _is_host(component: str) -> bool:
    """Tell a host from the first part of a path."""
    return "." in component or ":" in component or component == "localhost"


def _check_host(text: str, reason: str) -> None:
    if text.startswith("["):
        _, colon, port = split_bracketed(text, reason)
        wrong = False
    else:
        host, colon, port = text.partition(":")
        wrong = not _HOST_CHARACTERS.issuperset(host) or any(
            not label or label[0] == "-" or label[-1] == "-" for label in host.split(".")
        )
    if wrong or (colon and not _is_number(port)):
        raise FormatError(reason, f"{text[:80]!r} is not host[:port]")


def _check_tag(tag: str, reason: str) -> None:
    if not tag or len(tag) > _MAX_TAG_BYTES or not _TAG_CHARACTERS.issuperset(tag):
        raise FormatError(reason, f"{tag[:80]!r} is not a tag")
    if tag[0] in ".-":
        raise FormatError(reason, f"{tag[:80]!r} is not a tag")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
