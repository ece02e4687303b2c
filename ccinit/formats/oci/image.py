"""Image index, manifest and image config (image-spec v1.1; Docker's schema 2 spells them alike).

Only members that select, check, decrypt and start an image are read; labels, history, other
annotations and the rest have no meaning here, and unknown members are skipped as the specification
demands. A document must be one thing only (CVE-2021-41190): its `mediaType`, the `Content-Type` it
came with and its members have to agree. The caller verifies digests of documents; the room `run`
resolves `User`.
"""

from collections.abc import Mapping
from enum import StrEnum

from ccinit.annotations import TypeAlias
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.digest import Digest, parse_digest
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.formats.oci.compression import Compression
from ccinit.formats.oci.layer_encryption import (
    ENCRYPTED_SUFFIX,
    LayerEncryption,
    parse_layer_encryption,
)
from ccinit.values import frozen

MAX_MANIFEST_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 20
MAX_LAYERS = 128
"""Docker's own cap; overlayfs itself would take 500."""
MAX_INDEX_ENTRIES = 64
MAX_LAYER_BYTES = 1 << 40
_MAX_ITEMS = 512
_MAX_TEXT_BYTES = 32 * 1024
_MAX_USER_BYTES = 256
_MAX_SIGNAL_BYTES = 32
_MAX_VOLUMES = 64
_PLAIN_REASONS = {
    "User": "image_config.user",
    "WorkingDir": "image_config.working_dir",
    "StopSignal": "image_config.stop_signal",
}

_Object: TypeAlias = Mapping[str, JsonValue]


class MediaType(StrEnum):
    """The types of documents that are understood."""

    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


_INDEX_TYPES = frozenset({MediaType.OCI_INDEX, MediaType.DOCKER_LIST})
_MANIFEST_TYPES = frozenset({MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST})
_DOCUMENT_TYPES = _INDEX_TYPES | _MANIFEST_TYPES
_CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)


_LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": Compression.ZSTD,
    # Deprecated, still legal. `urls` is not followed: the registry has the blob or the pull fails.
    "application/vnd.oci.image.layer.nondistributable.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": Compression.ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": Compression.NONE,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": Compression.GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": Compression.ZSTD,  # BuildKit's
    "application/vnd.docker.image.rootfs.foreign.diff.tar": Compression.NONE,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": Compression.GZIP,
}


@frozen
class Descriptor:
    """A blob's type, digest and size in bytes, always together."""

    media_type: str
    digest: Digest
    size: int


@frozen
class Layer:
    """A layer blob.

    Attributes:
        compression: of the tar, before encryption; follows from the media type.
        encryption: None if the blob is not encrypted.
    """

    blob: Descriptor
    compression: Compression
    encryption: LayerEncryption | None


@frozen
class ImageIndex:
    """Manifests for several platforms, of which this guest uses one.

    Attributes:
        manifest: of the first entry for linux/amd64 whose type is understood; None without one.
    """

    manifest: Descriptor | None


@frozen
class Manifest:
    """One image: its config and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Layer, ...]


@frozen
class ImageConfig:
    """What the guest uses of an image's config.

    Attributes:
        user: as written; empty means root.
        env: `NAME=value` texts in their order.
        diff_ids: digests of the uncompressed layer tars, bottom first.
        volumes: absolute, normal paths of directories that the program writes to.
        stop_signal: as written; empty means SIGTERM.
    """

    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    working_dir: str
    diff_ids: tuple[Digest, ...]
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""


def parse_image_document(data: bytes, content_type: str | None = None) -> ImageIndex | Manifest:
    """Parse an index or a manifest.

    Args:
        data: the bytes whose digest has been asked for.
        content_type: of the response they came with (parameters are ignored), if there was one.

    Raises:
        FormatError: `manifest.…`.
    """
    document = _object(parse_json(data, "manifest", MAX_MANIFEST_BYTES), "manifest.type")
    if document.get("schemaVersion") != 2:
        raise FormatError("manifest.schema", "expected schemaVersion 2")
    is_index = "manifests" in document
    if is_index == ("layers" in document or "config" in document):
        raise FormatError("manifest.ambiguous", "expected either manifests, or config and layers")
    media_type = _document_type(document.get("mediaType"), content_type)
    if media_type is not None and (media_type in _INDEX_TYPES) != is_index:
        raise FormatError("manifest.media_type", f"members do not fit {media_type}")
    return _parse_index(document) if is_index else _parse_manifest(document)


def _document_type(member: JsonValue, content_type: str | None) -> MediaType | None:
    """Return the type that the document and the response state; None if neither states any."""
    stated = {content_type.partition(";")[0].strip().lower()} if content_type else set()
    if member is not None:
        if not isinstance(member, str):
            raise FormatError("manifest.media_type", "mediaType is not text")
        stated.add(member)
    if len(stated) > 1:
        raise FormatError("manifest.media_type", "Content-Type and mediaType differ")
    for text in stated:
        try:
            return MediaType(text)
        except ValueError as error:
            raise FormatError("manifest.media_type", f"unknown type {text[:80]!r}") from error
    return None


def _parse_index(document: _Object) -> ImageIndex:
    """Read type and platform of every entry, but digest and size only of the one that is used.

    The specification demands that unknown types are ignored; and another entry's digest by another
    algorithm, for example, is no fault of the one that is used.
    """
    items = _array(document.get("manifests"), "manifest.entries", MAX_INDEX_ENTRIES)
    entries = [_object(item, "manifest.entry") for item in items]
    usable = [entry for entry in entries if _is_usable(entry)]
    return ImageIndex(manifest=_descriptor(usable[0], MAX_MANIFEST_BYTES) if usable else None)


def _is_usable(entry: _Object) -> bool:
    platform = _object(_or_empty(entry, "platform"), "manifest.platform")
    system, architecture, variant = (
        _text(platform, key, "manifest.platform") for key in ("os", "architecture", "variant")
    )
    return (
        (system, architecture) == ("linux", "amd64")
        and variant in ("", "v1")
        and _text(entry, "mediaType", "manifest.descriptor") in _DOCUMENT_TYPES
    )


def _parse_manifest(document: _Object) -> Manifest:
    config = _descriptor(_object(document.get("config"), "manifest.config"), MAX_CONFIG_BYTES)
    if config.media_type not in _CONFIG_TYPES:
        raise FormatError(
            "manifest.config_type", f"{config.media_type[:80]!r} is not an image config"
        )
    items = _array(document.get("layers"), "manifest.layers", MAX_LAYERS)
    if not items:
        raise FormatError("manifest.layers", "an image without layers has nothing to run")
    return Manifest(config=config, layers=tuple(_parse_layer(item) for item in items))


def _parse_layer(value: JsonValue) -> Layer:
    layer = _object(value, "manifest.layer")
    blob = _descriptor(layer, MAX_LAYER_BYTES)
    packed_type = blob.media_type.removesuffix(ENCRYPTED_SUFFIX)
    compression = _LAYER_TYPES.get(packed_type)
    if compression is None:
        raise FormatError("manifest.layer_type", f"unknown layer type {blob.media_type[:80]!r}")
    is_encrypted = packed_type != blob.media_type
    return Layer(
        blob=blob,
        compression=compression,
        encryption=parse_layer_encryption(layer.get("annotations")) if is_encrypted else None,
    )


def _descriptor(value: _Object, max_bytes: int) -> Descriptor:
    size = value.get("size")
    if type(size) is not int or size < 0:
        raise FormatError("manifest.size", "a descriptor's size is a count of bytes")
    if size > max_bytes:
        raise LimitExceededError(
            "manifest.size", f"expected at most {max_bytes} bytes, found {size}"
        )
    return Descriptor(
        media_type=_text(value, "mediaType", "manifest.descriptor"),
        digest=parse_digest(_text(value, "digest", "manifest.digest"), "manifest.digest"),
        size=size,
    )


def select_platform(index: ImageIndex) -> Descriptor:
    """Return the first manifest for linux/amd64 (image-spec, "Image Index": the first is used).

    Entries of other types and platforms are skipped, such as BuildKit's attestations (platform
    `unknown`).

    Raises:
        FormatError: `manifest.platform` (none matches) or `manifest.nested` (it is an index).
    """
    if index.manifest is None:
        raise FormatError("manifest.platform", "no manifest for linux/amd64")
    if index.manifest.media_type not in _MANIFEST_TYPES:
        raise FormatError("manifest.nested", "an index must name a manifest")
    return index.manifest


def parse_image_config(data: bytes) -> ImageConfig:
    """Parse an image config for linux/amd64.

    Raises:
        FormatError: `image_config.…`, the member that is wrong.
    """
    document = _object(parse_json(data, "image_config", MAX_CONFIG_BYTES), "image_config.type")
    if (document.get("os"), document.get("architecture")) != ("linux", "amd64"):
        raise FormatError("image_config.platform", "the image is not for linux/amd64")
    rootfs = _object(document.get("rootfs"), "image_config.rootfs")
    if rootfs.get("type") != "layers":
        raise FormatError("image_config.rootfs", "expected rootfs of type layers")
    diff_ids = _texts(rootfs, "diff_ids", "image_config.diff_ids")
    config = _object(_or_empty(document, "config"), "image_config.config")
    return ImageConfig(
        user=_plain(config, "User", _MAX_USER_BYTES),
        env=_environment(config),
        entrypoint=_texts(config, "Entrypoint", "image_config.entrypoint"),
        cmd=_texts(config, "Cmd", "image_config.cmd"),
        working_dir=_plain(config, "WorkingDir", 4096),
        diff_ids=tuple(parse_digest(text, "image_config.diff_ids") for text in diff_ids),
        volumes=_volumes(config),
        stop_signal=_plain(config, "StopSignal", _MAX_SIGNAL_BYTES),
    )


def _environment(config: _Object) -> tuple[str, ...]:
    env = _texts(config, "Env", "image_config.env")
    for item in env:
        name, equals, _value = item.partition("=")
        if not name or not equals or "\n" in item:
            raise FormatError("image_config.env", f"{name[:80]!r}: expected NAME=value on one line")
    return env


def _volumes(config: _Object) -> tuple[str, ...]:
    """Return the keys of `Volumes`, an object whose values have no meaning."""
    reason = "image_config.volumes"
    value = _object(_or_empty(config, "Volumes"), reason)
    if len(value) > _MAX_VOLUMES:
        raise LimitExceededError(
            reason, f"expected at most {_MAX_VOLUMES} volumes, found {len(value)}"
        )
    paths = []
    for key in value:
        path = _checked_text(key, reason).rstrip("/")
        parts = path.split("/")
        is_below_root = path.startswith("/") and all(parts[1:])
        if not is_below_root or {".", ".."} & set(parts) or not path.isprintable():
            raise FormatError(reason, f"{key[:80]!r} is not a normal absolute path below /")
        paths.append(path)
    return tuple(paths)


def _plain(config: _Object, key: str, max_bytes: int) -> str:
    """Return a text without control characters; absent or null means empty."""
    reason = _PLAIN_REASONS[key]
    text = _text(config, key, reason)
    if len(text.encode()) > max_bytes or not text.isprintable():
        raise FormatError(reason, f"expected at most {max_bytes} printable bytes")
    return text


def _object(value: JsonValue, reason: str) -> _Object:
    if not isinstance(value, Mapping):
        raise FormatError(reason, "expected an object")
    return value


def _or_empty(value: _Object, key: str) -> JsonValue:
    member = value.get(key)
    return {} if member is None else member


def _array(value: JsonValue, reason: str, max_items: int) -> tuple[JsonValue, ...]:
    if not isinstance(value, list):
        raise FormatError(reason, "expected an array")
    if len(value) > max_items:
        raise LimitExceededError(reason, f"expected at most {max_items} items, found {len(value)}")
    return tuple(value)


def _text(value: _Object, key: str, reason: str) -> str:
    """Return a text; absent or null means empty."""
    text = value.get(key)
    return "" if text is None else _checked_text(text, reason)


def _texts(value: _Object, key: str, reason: str) -> tuple[str, ...]:
    """Return an array of texts; absent or null means empty."""
    items = value.get(key)
    if items is None:
        return ()
    return tuple(_checked_text(item, reason) for item in _array(items, reason, _MAX_ITEMS))


def _checked_text(text: JsonValue, reason: str) -> str:
    if not isinstance(text, str):
        raise FormatError(reason, "expected text")
    if len(text.encode()) > _MAX_TEXT_BYTES:
        raise LimitExceededError(reason, f"more than {_MAX_TEXT_BYTES} bytes")
    if "\0" in text:
        raise FormatError(reason, "text contains NUL")
    return text
