"""What resources have to hold for the uses that a pod makes of them.

A guest finds out in ATTEST, UNLOCK, PULL or START. By its rules and in its words.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.release import check_released_size
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.oci.credentials import find_credential
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import plan_sources, select_rule
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import (
    MAX_PULL_SECRET_BYTES,
    name_piped_resources,
    name_policies,
    name_resources,
)
from ccinit.formats.pod.secret import (
    MAX_FILES_BYTES,
    FileSecret,
    VariableSecret,
    decode_variable,
)
from ccinit.formats.signature.image_policy import ImagePolicy, name_policy_keys, parse_image_policy
from guest_owner.resources.contents import check_content
from guest_owner.resources.policy_keys import check_keys, list_key_uses

Unfit = tuple[KbsUri, str]
"""A resource, and why a guest of the pod refuses it."""
ReadContent = Callable[[KbsUri, EnvelopeKind], bytes | None]
"""Returns what a resource holds as its guest will read it, without an envelope; None if it holds
nothing, or has no such form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a guest of a pod makes of its resources.

    Attributes:
        named: everything that it asks for, with what its image policies name, as far as these can
            be read.
        unfit: why it refuses which of them.
        crowded: why one of its containers cannot take which of them beside its other files.
        excess: why it refuses all of them together; empty if it does not.
    """

    named: Mapping[KbsUri, EnvelopeKind]
    unfit: Mapping[KbsUri, str]
    crowded: Mapping[KbsUri, str]
    excess: str


def judge_resources(pod: PodManifest, read: ReadContent, *, with_identity: bool) -> Judgement:
    """Judge what is there of a pod's resources.

    Args:
        pod: what it uses them for.
        read: gets one of them.
        with_identity: whether there is an owner plane, which needs a TLS identity.

    Raises:
        FormatError: `pod.resource`, as `name_resources`.
    """
    named = name_resources(pod, with_identity=with_identity)
    contents = _read_all(named, read)
    unfit = _check_each(named, contents) | dict(_find_unfit(pod, contents))
    policies, keys = _read_policies(pod, named, contents, unfit)
    key_contents = _read_all(dict.fromkeys(keys, EnvelopeKind.FILE), read)
    for policy in policies:
        unfit |= _find_unfit_keys(policy, key_contents)
    sizes = [len(data) for some in (contents, key_contents) for data in some.values()]
    try:
        check_released_size(sizes)
        excess = ""
    except LimitExceededError as error:
        excess = error.detail
    named |= dict.fromkeys(keys, EnvelopeKind.FILE)
    crowded = dict(_find_crowded(pod, contents))
    return Judgement(named=named, unfit=unfit, crowded=crowded, excess=excess)


def _read_all(named: Mapping[KbsUri, EnvelopeKind], read: ReadContent) -> dict[KbsUri, bytes]:
    found = ((uri, read(uri, kind)) for uri, kind in named.items())
    return {uri: data for uri, data in found if data is not None}


def _check_each(
    named: Mapping[KbsUri, EnvelopeKind], contents: Mapping[KbsUri, bytes]
) -> dict[KbsUri, str]:
    unfit: dict[KbsUri, str] = {}
    for uri, data in contents.items():
        if isinstance(uri, ResourceUri):
            try:
                check_content(uri, named[uri], data)
            except FormatError as error:
                unfit[uri] = error.detail
    return unfit


def _read_policies(
    pod: PodManifest,
    named: Mapping[KbsUri, EnvelopeKind],
    contents: Mapping[KbsUri, bytes],
    unfit: dict[KbsUri, str],
) -> tuple[list[ImagePolicy], tuple[ResourceUri, ...]]:
    """Return the image policies that can be read, and what they name; tell of the others."""
    policies: list[ImagePolicy] = []
    keys: tuple[ResourceUri, ...] = ()
    for uri in name_policies(pod):
        if uri not in contents:
            continue
        try:
            policy = parse_image_policy(contents[uri])
            check_keys(policy, {})
            keys = name_policy_keys((*policies, policy), named.items())
        except FormatError as error:
            unfit[uri] = error.detail
        else:
            policies.append(policy)
    return policies, keys


def _find_unfit_keys(policy: ImagePolicy, contents: Mapping[KbsUri, bytes]) -> Iterator[Unfit]:
    """Yield the resources that a policy names and whose content is no key or root, and why."""
    for use in list_key_uses(policy):
        if isinstance(use.source, ResourceUri) and use.source in contents:
            try:
                use.check(contents[use.source])
            except FormatError as error:
                yield use.source, error.detail


def find_unfit_contents(pod: PodManifest, contents: Mapping[KbsUri, bytes]) -> Iterator[Unfit]:
    """Yield what is wrong with resources of a pod beside their kinds and its image policies.

    Args:
        pod: what it uses them for.
        contents: of those that are known, without envelopes.
    """
    yield from _find_unfit(pod, contents)
    yield from _find_crowded(pod, contents)


def _find_unfit(pod: PodManifest, contents: Mapping[KbsUri, bytes]) -> Iterator[Unfit]:
    for secret in pod.secrets:
        if isinstance(secret, VariableSecret) and secret.uri in contents:
            try:
                decode_variable(secret, contents[secret.uri])
            except FormatError as error:
                yield secret.uri, error.detail
    yield from _find_unfit_credentials(pod, contents)
    for uri in name_piped_resources(pod):
        size = len(contents.get(uri, b""))
        if size > MAX_PULL_SECRET_BYTES:
            yield uri, f"expected at most {MAX_PULL_SECRET_BYTES} bytes, found {size}"


def _find_unfit_credentials(pod: PodManifest, contents: Mapping[KbsUri, bytes]) -> Iterator[Unfit]:
    """Yield the credentials that cannot be read at a place that an image may come from."""
    for image in pod.images:
        if image.auth is None or image.auth not in contents:
            continue
        try:
            reference = parse_image_reference(image.reference)
            rule = select_rule(pod.registries, reference)
            for source in plan_sources(rule, reference, image.ca_pem):
                find_credential(contents[image.auth], source.reference)
        except FormatError as error:
            yield image.auth, error.detail


def _find_crowded(pod: PodManifest, contents: Mapping[KbsUri, bytes]) -> Iterator[Unfit]:
    """Yield the resources whose files are too much together for one container."""
    for container in pod.containers:
        sizes = [len(one.text.encode()) for one in pod.files if one.container == container.name]
        uris = [
            one.uri
            for one in pod.secrets
            if isinstance(one, FileSecret) and one.container == container.name
        ]
        size = sum((*sizes, *(len(contents.get(uri, b"")) for uri in uris)))
        if size > MAX_FILES_BYTES:
            detail = f"expected at most {MAX_FILES_BYTES} bytes of files in {container.name}"
            for uri in dict.fromkeys(uris):
                yield uri, f"{detail}, found {size}"
