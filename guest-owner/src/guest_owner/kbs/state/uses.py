"""What the registered documents say of a resource that is about to be stored.

A name says little of what a resource is for; the documents that name it say what their guests do
with it. What none of these guests would take is refused while whoever stores it is still there. A
pod's old document may stand beside its new one, so what only some of them would not take is stored.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES, parse_initdata
from ccinit.formats.initdata.guest_config import EnvelopePolicy, GuestConfig
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.kbs.envelope import EnvelopeKind, parse_envelope
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.pod.manifest import PodManifest
from guest_owner.files import list_folder, read_capped
from guest_owner.kbs.state.reference_files import DOCUMENTS
from guest_owner.kbs.state.store import Store
from guest_owner.resources.contents import (
    check_body_size,
    check_content,
    is_envelope,
    keep_volume_key,
)
from guest_owner.resources.pod_contents import Judgement, judge_resources

_KEYS: Final = (EnvelopeKind.VOLUME_KEY, EnvelopeKind.IMAGE_KEY)
_MAX_NAMED: Final = 3  # documents in one refusal, which is a line of a log and an HTTP reply


def check_uses(
    store: Store, uri: ResourceUri, body: bytes, kind: EnvelopeKind | None = None
) -> tuple[str, ...]:
    """Return what `judge_uses` tells, and raise what it raises."""
    return tuple(filter(None, judge_uses(store, uri, body, kind)))


def judge_uses(
    store: Store, uri: ResourceUri, body: bytes, kind: EnvelopeKind | None = None
) -> Iterator[str]:
    """Refuse a body that no guest of a document that names the resource would take.

    Its form, in an envelope or not, is not judged, but an envelope that nobody opens is told. What
    is too much beside others is refused only if it is more than what it replaces: else these could
    not be made smaller one by one.

    A thousand documents take more than a second, so a server has others to answer between two.

    Args:
        store: has the documents, and their other resources.
        uri: the resource.
        body: as it will be sent.
        kind: what it is for, if whoever stores it says so. Else, if no document names it, its name
            may say so.

    Yields:
        For each document why its guests would not take it as it is meant; "" if they would.

    Raises:
        FormatError: `resource.size`; `resource.unfit`, after the last document; as `check_content`.
        ConfigError: `resource.volume_key`, as `keep_volume_key`; `state.read`.
    """
    check_body_size(body)  # first: an envelope that is too long is not read as one
    stored = _read_body(store, uri) or b""
    keep_volume_key(uri, stored, body, kind)  # then: it says more of a mistaken name
    takes, refused = False, []
    for name, config, pod in _find_documents(store, uri):
        judged, told = _judge(store, uri, body, config, pod), ""
        if uri in judged.named:
            together = judged.crowded.get(uri) or judged.excess
            why = judged.unfit.get(uri) or together
            form = _find_mistaken_form(body, config)
            if why or form:
                told = ": ".join(filter(None, (f"initdata {name}", form, why)))
            if why and (uri in judged.unfit or len(body) > len(stored)):
                refused.append(told)
            else:
                takes = True
        yield told
    if kind is None and not refused and not takes:
        _check_by_name(uri, body)
    if refused and not takes:
        raise FormatError("resource.unfit", f"no guest would take {uri}: {_join(refused)}")


def _join(refused: list[str]) -> str:
    left = len(refused) - _MAX_NAMED
    return "; ".join((*refused[:_MAX_NAMED], *([f"and {left} more"] if left > 0 else ())))


def _judge(
    store: Store, uri: ResourceUri, body: bytes, config: GuestConfig, pod: PodManifest
) -> Judgement:
    """Judge the resources of a document's pod as if the body were stored."""

    def read(named: KbsUri, _kind: EnvelopeKind) -> bytes | None:
        found = body if named == uri else _read_body(store, named)
        return None if found is None else _open(found, config)

    return judge_resources(pod, read, with_identity=config.owner is not None)


def _find_mistaken_form(body: bytes, config: GuestConfig) -> str | None:
    """Say if guests take an envelope for the content; no guest can tell that this is a mistake."""
    if config.kbs.envelope is EnvelopePolicy.REQUIRED or not is_envelope(body):
        return None
    return f'its kbs.envelope is "{config.kbs.envelope}", so the envelope counts as content'


def _check_by_name(uri: ResourceUri, body: bytes) -> None:
    named = [kind for kind in _KEYS if f"{uri.tag}-".startswith(f"{kind}-")]
    if uri.repository == "ccinit" and named and not is_envelope(body):
        check_content(uri, named[0], body)


def _find_documents(
    store: Store, uri: ResourceUri
) -> Iterator[tuple[str, GuestConfig, PodManifest]]:
    """Yield the registered documents that may name a resource, and their names.

    Those in which not even its type (in our own names the pod's) occurs are not parsed: there may
    be a thousand. What cannot be read, by this version or at all, says nothing; whoever relies on a
    registration is told of it.
    """
    for path in list_folder(store.root / DOCUMENTS):
        try:
            document = read_capped(path, MAX_DOCUMENT_BYTES)
            if uri.type.encode() not in document:
                continue
            config, pod = _parse_once(document)
        except CcinitError:
            continue
        yield path.stem, config, pod


@lru_cache(maxsize=32)
def _parse_once(document: bytes) -> tuple[GuestConfig, PodManifest]:
    return parse_guest_files(parse_initdata(document))


def _read_body(store: Store, uri: KbsUri) -> bytes | None:
    if not isinstance(uri, ResourceUri):
        return None
    try:
        return store.read_resource(uri)
    except CcinitError:  # absent, or damaged: then its own guest is told
        return None


def _open(body: bytes, config: GuestConfig) -> bytes:
    if config.kbs.envelope is EnvelopePolicy.REQUIRED:
        try:
            return parse_envelope(body).data
        except FormatError:
            pass
    return body
