"""`pod.toml`: the immutable pod, part of the measured initdata document.

The guest starts exactly this and nothing else, so the manifest is also the policy. Version 1,
strict: an unknown key, a name that refers to nothing, or a duplicate is refused here. Whether this
guest can honour it (disks, platform) is checked by the rooms.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import partial

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.pem import read_roots
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.oci.reference import MAX_REFERENCE_BYTES, parse_image_reference
from ccinit.formats.oci.registries import (
    RegistryRule,
    plan_sources,
    read_registry,
    select_rule,
)
from ccinit.formats.pod.container import Container, ContainerKind, read_container
from ccinit.formats.pod.name import MAX_NAME_BYTES, check_path, read_name
from ccinit.formats.pod.order import plan_start_order
from ccinit.formats.pod.places import Place, check_places
from ccinit.formats.pod.scratch_tags import check_tag_devices
from ccinit.formats.pod.secret import (
    FileSecret,
    PodSecret,
    VariableSecret,
    read_mode,
    read_secret,
)
from ccinit.formats.pod.share import Share, read_share
from ccinit.formats.pod.volume import Volume, check_told_apart, read_volume
from ccinit.values import frozen

_MAX_FILE_BYTES = 64 * 1024
_MAX_IMAGE_KEYS = 16
_MIN_ROTATE_SECONDS, _MAX_ROTATE_SECONDS = 60, 366 * 86_400


class OnStorageError(StrEnum):
    """What happens when a disk returns other bytes than were written to it, or loses a write.

    The reader, or whoever syncs, gets EIO, and the sealed log an event; `stop` also ends the pod.
    """

    REPORT = "report"
    STOP = "stop"


@frozen
class Image:
    """An image by digest.

    Attributes:
        reference: `host[:port]/repository@sha256:…`, as `parse_image_reference` takes it.
        policy: resource with the `policy.json` that the image's signatures must satisfy; None
            trusts the digest alone.
        auth: resource with registry credentials.
        ca_pem: the only roots that may vouch for the registry.
        keys: resources with private keys that open encrypted layers (jwe, pkcs7). A key of the KBS
            that a layer itself names need not be here.
    """

    name: str
    reference: str
    policy: ResourceUri | None
    auth: ResourceUri | None
    ca_pem: str
    encryption: ImageEncryption = ImageEncryption.ALLOWED
    keys: tuple[ResourceUri, ...] = ()


@frozen
class ImageDefaults:
    """What `cdh.toml` says of every image; None for what it does not say. See `Image`."""

    policy: ResourceUri | None = None
    auth: ResourceUri | None = None
    ca_pem: str | None = None


@frozen
class ConfigFile:
    """A read-only file of a container, whose text is in the manifest and no secret."""

    container: str
    path: str
    mode: int
    text: str


@frozen
class Allow:
    """What the owner allows beyond running the pod; everything is off by default.

    Attributes:
        exec: containers in which the owner plane may run programs, copy files and send signals.
        evidence: containers that may ask for evidence and tokens, and add to the event log.
    """

    exec: tuple[str, ...] = ()
    exit_code_to_host: bool = False
    metrics_to_host: bool = False
    evidence: tuple[str, ...] = ()


@frozen
class PodManifest:
    """The whole of `pod.toml`; every name it uses is defined in it.

    Attributes:
        rotate_every_seconds: how often secrets rotate without a call of the owner; 0 for never.
    """

    name: str
    images: tuple[Image, ...]
    containers: tuple[Container, ...]
    secrets: tuple[PodSecret, ...]
    volumes: tuple[Volume, ...]
    allow: Allow
    registries: tuple[RegistryRule, ...] = ()
    rotate_every_seconds: int = 0
    on_storage_error: OnStorageError = OnStorageError.REPORT
    files: tuple[ConfigFile, ...] = ()
    share: Share = Share()

    def volume(self, name: str) -> Volume:
        """Return the volume of that name, which parsing has found to exist."""
        return next(volume for volume in self.volumes if volume.name == name)


def parse_pod_manifest(text: str, defaults: ImageDefaults | None = None) -> PodManifest:
    """Parse `pod.toml`.

    Args:
        text: of the file.
        defaults: what `cdh.toml` says in place of each image's keys.

    Raises:
        FormatError: `pod.…`, the key that is wrong; `pod.image.twice`, a key that `cdh.toml` has;
            `reference.…`, an image without a host or digest.
    """
    with Fields(parse_toml(text.encode(), "pod.toml"), "pod") as fields:
        fields.integer("version", low=1, high=1)
        manifest = PodManifest(
            name=read_name(fields, "name", "pod"),
            images=fields.tables(
                "image", partial(_read_image, defaults=defaults or ImageDefaults())
            ),
            containers=fields.tables("container", read_container),
            secrets=fields.tables("secret", read_secret),
            volumes=fields.tables("volume", read_volume),
            allow=fields.table("allow", _read_allow, default=Allow()),
            registries=fields.tables("registry", read_registry),
            rotate_every_seconds=fields.table("rotate", _read_rotate, default=0),
            on_storage_error=fields.choice(
                "on_storage_error", OnStorageError, default=OnStorageError.REPORT
            ),
            files=fields.tables("file", _read_file),
            share=fields.table("share", read_share, default=Share()),
        )
    _check_names(manifest)
    _check_sources(manifest)
    plan_start_order(manifest.containers)  # refuses containers that have no order
    _check_rotation(manifest)
    check_tag_devices(manifest.volumes)
    check_told_apart(manifest.volumes)
    for container in manifest.containers:
        _check_variables(manifest, container)
        places = tuple(_list_places(manifest, container))
        check_places(container.name, places, container.cwd)
    return manifest


def _read_image(fields: Fields, defaults: ImageDefaults) -> Image:
    _check_once(fields, defaults)
    reference = fields.text("reference", max_bytes=MAX_REFERENCE_BYTES)
    parse_image_reference(reference)
    image = Image(
        name=read_name(fields, "name", "pod.image"),
        reference=reference,
        policy=defaults.policy or read_optional_uri(fields, "policy", "pod.image"),
        auth=defaults.auth or read_optional_uri(fields, "auth", "pod.image"),
        ca_pem=defaults.ca_pem or read_roots(fields, "ca", "pod.image.ca"),
        encryption=fields.choice("encryption", ImageEncryption, default=ImageEncryption.ALLOWED),
        keys=tuple(
            parse_resource_uri(text, "pod.image.keys")
            for text in fields.texts("keys", max_items=_MAX_IMAGE_KEYS)
        ),
    )
    if image.keys and image.encryption is ImageEncryption.NONE:
        raise FormatError("pod.image.keys", "keys of an image that may not be encrypted")
    return image


def _check_once(fields: Fields, defaults: ImageDefaults) -> None:
    said = {"policy": defaults.policy, "auth": defaults.auth, "ca": defaults.ca_pem}
    for key, value in said.items():
        if value is not None and fields.has(key):
            raise FormatError("pod.image.twice", f"cdh.toml says {key} for every image")


def _read_rotate(fields: Fields) -> int:
    return fields.integer("every_seconds", low=_MIN_ROTATE_SECONDS, high=_MAX_ROTATE_SECONDS)


def _read_file(fields: Fields) -> ConfigFile:
    path = fields.text("path")
    check_path(path, "pod.file.path")
    return ConfigFile(
        container=read_name(fields, "container", "pod.file"),
        path=path,
        mode=read_mode(fields, default=0o444),
        text=fields.text("text", max_bytes=_MAX_FILE_BYTES),
    )


def _read_allow(fields: Fields) -> Allow:
    return Allow(
        exec=fields.texts("exec", max_bytes=MAX_NAME_BYTES),
        exit_code_to_host=fields.boolean("exit_code_to_host", default=False),
        metrics_to_host=fields.boolean("metrics_to_host", default=False),
        evidence=fields.texts("evidence", max_bytes=MAX_NAME_BYTES),
    )


def read_optional_uri(fields: Fields, key: str, where: str) -> ResourceUri | None:
    """Read the name of a resource, or None if the key is absent.

    Raises:
        FormatError: `<where>.<key>`.
    """
    text = fields.optional_text(key)
    return None if text is None else parse_resource_uri(text, f"{where}.{key}")


def _check_names(manifest: PodManifest) -> None:
    images = _unique(manifest.images, "pod.image.name")
    volumes = _unique(manifest.volumes, "pod.volume.name")
    if len({rule.prefix for rule in manifest.registries}) != len(manifest.registries):
        raise FormatError("pod.registry.prefix", "a prefix is used twice")
    containers = _unique(manifest.containers, "pod.container.name")
    for container in manifest.containers:
        _check_known(container.image, images, "pod.container.image")
        for mount in container.mounts:
            _check_known(mount.volume, volumes, "pod.container.mount.volume")
        for name in container.depends_on:
            _check_known(name, containers - {container.name}, "pod.container.depends_on")
    for secret in manifest.secrets:
        _check_known(secret.container, containers, "pod.secret.container")
    for file in manifest.files:
        _check_known(file.container, containers, "pod.file.container")
    for name in manifest.allow.exec:
        _check_known(name, containers, "pod.allow.exec")
    for name in manifest.allow.evidence:
        _check_known(name, containers, "pod.allow.evidence")
    if not any(container.kind is ContainerKind.MAIN for container in manifest.containers):
        raise FormatError("pod.container", "the pod has no main container")


def _check_sources(manifest: PodManifest) -> None:
    """Refuse an image that the manifest's registries block, or give a name that is none."""
    for image in manifest.images:
        reference = parse_image_reference(image.reference)
        try:
            plan_sources(select_rule(manifest.registries, reference), reference, image.ca_pem)
        except (FormatError, VerificationError) as error:
            raise FormatError("pod.registry", f"image {image.name!r}: {error.detail}") from error


def _check_rotation(manifest: PodManifest) -> None:
    """Refuse what is to happen when secrets rotate, where none does."""
    rotating = {
        one.container for one in manifest.secrets if isinstance(one, FileSecret) and one.rotate
    }
    if manifest.rotate_every_seconds and not rotating:
        raise FormatError("pod.rotate", "no secret says rotate = true")
    for container in manifest.containers:
        if container.rotate_signal is not None and container.name not in rotating:
            detail = f"{container.name}: none of its secrets says rotate = true"
            raise FormatError("pod.container.rotate_signal", detail)


def _check_variables(manifest: PodManifest, container: Container) -> None:
    """Refuse a variable that is set twice: one of the values would be without effect."""
    plain = {name for name, _ in container.env}
    taken: set[str] = set()
    for secret in manifest.secrets:
        if not isinstance(secret, VariableSecret) or secret.container != container.name:
            continue
        if secret.name in plain or secret.name in taken:
            by = "two secrets" if secret.name in taken else "a secret and [container.env]"
            detail = f"{container.name}: {secret.name!r} is set twice, by {by}"
            raise FormatError("pod.secret.env", detail)
        taken.add(secret.name)


def _list_places(manifest: PodManifest, container: Container) -> Iterator[Place]:
    for mount in container.mounts:
        yield Place(key="pod.container.mount.path", path=mount.path)
    for file in manifest.files:
        if file.container == container.name:
            yield Place(key="pod.file.path", path=file.path, is_file=True)
    for secret in manifest.secrets:
        if isinstance(secret, FileSecret) and secret.container == container.name:
            path, rotates = secret.path, secret.rotate
            yield Place(key="pod.secret.file", path=path, is_file=True, rotates=rotates)


def _unique(items: Sequence[Image | Volume | Container], reason: str) -> set[str]:
    names = [item.name for item in items]
    for name in names:
        if names.count(name) > 1:
            raise FormatError(reason, f"{name!r} is used twice")
    return set(names)


def _check_known(name: str, known: set[str], reason: str) -> None:
    if name not in known:
        raise FormatError(reason, f"{name!r} is not defined in the manifest")
