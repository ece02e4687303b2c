"""Where an image's bytes may come from: `[[registry]]` of the pod manifest.

The semantics of containers-registries.conf(5), version 2, as far as they can be measured: the
longest `prefix` of the image's name wins, `location` replaces it, mirrors come first and in order,
`blocked` refuses. Left out are short names, aliases, `insecure`, credential helpers, a prefix that
has a tag or digest, and one without a port for a registry with one. A prefix that no reference can
have is refused, since it would silently block nothing. Names in signatures and policies are never
rewritten: they are compared with what the owner wrote. Fetching is left to `pull.registry`.
"""

from collections.abc import Sequence

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.pem import read_optional_roots
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.oci.reference import (
    DOCKER_HUB,
    DOCKER_HUB_REGISTRY,
    OFFICIAL_NAMESPACE,
    OLD_DOCKER_HUB,
    ImageReference,
    check_domain,
    check_location,
    parse_image_reference,
    parse_port,
    split_bracketed,
)
from ccinit.values import frozen, replace

MAX_SOURCES = 8
_ANY_HOST = "*."


@frozen
class Access:
    """How one location is reached.

    Attributes:
        ca_pem: the only roots that may vouch for it; empty means the image's.
        certificate_pem: the client's certificate, if the server wants one; empty means none.
        key: resource with the certificate's private key.
        proxy: `host:port` of an HTTP proxy, an IPv6 host in brackets; or empty.
    """

    ca_pem: str
    certificate_pem: str
    key: ResourceUri | None
    proxy: str


@frozen
class Location:
    """What replaces a prefix, `host[:port][/path]`; empty leaves it."""

    text: str
    access: Access


@frozen
class RegistryRule:
    """One `[[registry]]`.

    Attributes:
        prefix: of names, or `*.domain` for every host below a domain.
        mirrors: tried before `location`, in this order.
    """

    prefix: str
    location: Location
    blocked: bool
    mirrors: tuple[Location, ...]


@frozen
class PullSource:
    """One place to try: the image there, by the same digest, and how that place is reached."""

    reference: ImageReference
    access: Access


def read_registry(fields: Fields) -> RegistryRule:
    """Read one `[[registry]]` of `pod.toml`.

    Raises:
        FormatError: `pod.registry.…`.
    """
    location = _read_location(fields)
    prefix = fields.optional_text("prefix", max_bytes=255) or location.text
    rule = RegistryRule(
        prefix=prefix,
        location=replace(location, text=location.text or prefix),
        blocked=fields.boolean("blocked", default=False),
        mirrors=tuple(
            mirror
            for mirror in fields.tables("mirror", _read_mirror, max_items=MAX_SOURCES - 1)
            if mirror is not None
        ),
    )
    if prefix.startswith(_ANY_HOST):
        check_domain(prefix.removeprefix(_ANY_HOST), "pod.registry.prefix")
        if location.text or rule.mirrors:
            raise FormatError("pod.registry.location", "a prefix of hosts has no other location")
        return replace(rule, location=replace(location, text=""))
    check_location(prefix, "pod.registry.prefix")
    if prefix.partition("/")[0] == OLD_DOCKER_HUB:
        raise FormatError("pod.registry.prefix", f"it is called {DOCKER_HUB} here")
    return rule


def _read_mirror(fields: Fields) -> Location | None:
    """Return a mirror, or None if it is for tags only, which no image of a pod has."""
    when = fields.optional_text("pull-from-mirror") or "all"
    if when not in ("all", "digest-only", "tag-only"):
        raise FormatError("pod.registry.mirror.pull-from-mirror", f"unknown {when[:80]!r}")
    location = _read_location(fields)
    if not location.text:
        raise FormatError("pod.registry.mirror.location", "missing")
    return None if when == "tag-only" else location


def _read_location(fields: Fields) -> Location:
    text = fields.optional_text("location", max_bytes=255) or ""
    if text:
        check_location(text, "pod.registry.location")
    certificate = read_optional_roots(fields, "certificate", "pod.registry.certificate")
    key = fields.optional_text("key")
    if bool(certificate) != (key is not None):
        raise FormatError("pod.registry.key", "a certificate and its key come together")
    return Location(
        text=text,
        access=Access(
            ca_pem=read_optional_roots(fields, "ca", "pod.registry.ca"),
            certificate_pem=certificate,
            key=None if key is None else parse_resource_uri(key, "pod.registry.key"),
            proxy=_read_proxy(fields),
        ),
    )


def _read_proxy(fields: Fields) -> str:
    text = fields.optional_text("proxy", max_bytes=255) or ""
    if text:
        if text.startswith("["):
            _, _, port = split_bracketed(text, "pod.registry.proxy")
        else:
            host, _, port = text.partition(":")
            check_domain(host, "pod.registry.proxy")
        parse_port(port, "pod.registry.proxy")
    return text


def rule_keys(rule: RegistryRule | None) -> tuple[ResourceUri, ...]:
    """Return the resources with the client's keys, each once."""
    locations = () if rule is None else (*rule.mirrors, rule.location)
    keys = [location.access.key for location in locations]
    return tuple(dict.fromkeys(key for key in keys if key is not None))


def select_rule(rules: Sequence[RegistryRule], reference: ImageReference) -> RegistryRule | None:
    """Return the rule for an image: the one with the longest prefix, or None.

    Raises:
        VerificationError: `registry.blocked`.
    """
    named = _normal(reference)
    matching = [rule for rule in rules if _matches(rule.prefix, named)]
    rule = max(matching, key=_precedence, default=None)
    if rule is not None and rule.blocked:
        raise VerificationError("registry.blocked", f"{rule.prefix} is blocked by the manifest")
    return rule


def plan_sources(
    rule: RegistryRule | None, reference: ImageReference, ca_pem: str
) -> tuple[PullSource, ...]:
    """Return where to look for an image, in order; the last one is the registry itself.

    Args:
        rule: of the image, see `select_rule`.
        reference: as the owner wrote it.
        ca_pem: the image's, for locations without their own.

    Raises:
        FormatError: `reference.…`, a rewritten name is not a reference.
    """
    named = _normal(reference)
    if rule is None:
        return (_source(named, _NO_ACCESS, ca_pem),)
    return tuple(
        _source(_rewrite(named, rule.prefix, location.text), location.access, ca_pem)
        for location in (*rule.mirrors, rule.location)
    )


_NO_ACCESS = Access(ca_pem="", certificate_pem="", key=None, proxy="")


def _precedence(rule: RegistryRule) -> tuple[bool, int]:
    """Sort by longest prefix; `*.domain` prefixes come after all that name the host."""
    return not rule.prefix.startswith(_ANY_HOST), len(rule.prefix)


def _normal(reference: ImageReference) -> ImageReference:
    """Use one name for Docker Hub, and the namespace of its official images."""
    if reference.host not in (DOCKER_HUB, OLD_DOCKER_HUB):
        return reference
    namespace = "" if "/" in reference.repository else f"{OFFICIAL_NAMESPACE}/"
    return replace(reference, host=DOCKER_HUB, repository=namespace + reference.repository)


def _matches(prefix: str, reference: ImageReference) -> bool:
    if prefix.startswith(_ANY_HOST):
        return reference.host.endswith(prefix[1:])
    name = f"{reference.authority}/{reference.repository}"
    return name == prefix or name.startswith(prefix + "/")


def _rewrite(reference: ImageReference, prefix: str, location: str) -> ImageReference:
    if not location:
        return reference
    rest = reference.text.removeprefix(prefix)
    return parse_image_reference(location + rest)


def _source(reference: ImageReference, access: Access, ca_pem: str) -> PullSource:
    reference = _normal(reference)
    if reference.host == DOCKER_HUB:
        reference = replace(reference, host=DOCKER_HUB_REGISTRY)
    return PullSource(reference=reference, access=replace(access, ca_pem=access.ca_pem or ca_pem))
