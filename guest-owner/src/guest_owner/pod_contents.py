"""What resources have to hold for the uses that a pod makes of them.

A guest finds out in PULL or START. By its rules and in its words.
"""

from collections.abc import Iterator, Mapping

from ccinit.errors import FormatError
from ccinit.formats.kbs.resource_uri import KbsUri
from ccinit.formats.pod.container import Container
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import MAX_PULL_SECRET_BYTES, name_piped_resources
from ccinit.formats.pod.secret import (
    MAX_FILES_BYTES,
    FileSecret,
    VariableSecret,
    decode_variable,
)

Unfit = tuple[KbsUri, str]
"""A resource, and why a guest of the pod refuses it."""


def find_unfit_contents(pod: PodManifest, contents: Mapping[KbsUri, bytes]) -> Iterator[Unfit]:
    """Yield what is wrong with resources of a pod.

    Args:
        pod: what it uses them for.
        contents: of those that are known, without envelopes.
    """
    for secret in pod.secrets:
        if isinstance(secret, VariableSecret) and secret.uri in contents:
            try:
                decode_variable(secret, contents[secret.uri])
            except FormatError as error:
                yield secret.uri, error.detail
    for uri in name_piped_resources(pod):
        size = len(contents.get(uri, b""))
        if size > MAX_PULL_SECRET_BYTES:
            yield uri, f"expected at most {MAX_PULL_SECRET_BYTES} bytes, found {size}"
    for container in pod.containers:
        yield from _find_too_much(pod, container, contents)


def _find_too_much(
    pod: PodManifest, container: Container, contents: Mapping[KbsUri, bytes]
) -> Iterator[Unfit]:
    """Yield the resources whose files are too much together for one container."""
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
