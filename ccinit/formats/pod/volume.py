"""`[[volume]]` of `pod.toml`: the pod's disks and areas of memory.

Every choice of how a disk is protected is made here, so it is measured: a host can offer disks, but
decide nothing about them.
"""

from collections.abc import Iterable
from enum import StrEnum

from ccinit.annotations import ClassVar, TypeAlias, TypeVar
from ccinit.errors import FormatError
from ccinit.formats.disk.verity import (
    BLOCK_BYTES,
    HASH_BYTES,
    MAX_DATA_BLOCKS,
    SALT_BYTES,
    RootHash,
    Salt,
    VerityParameters,
)
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.pod.name import read_name
from ccinit.values import frozen

MIN_DISK_BYTES = 1 << 20
MIN_JOURNALED_BYTES = 48 << 20
"""Of a persistent volume in the guest's own format. On a smaller one, tags and their journal leave
mkfs.ext4 no room for its own journal: it fails or, with 16 MiB, omits it."""

MIN_FORMER_BYTES = 9 << 20
"""Of a disk that such a volume was on: a smaller one has no room for tags and their journal."""

_LUKS2_HEADER_BYTES = 16 << 20  # before the content, which needs room, too

MAX_DISK_BYTES = 1 << 40
_MAX_FORMER_SIZES = 8


class VolumeKind(StrEnum):
    """Where a volume's bytes live, and what protects them."""

    SCRATCH = "scratch"
    PERSISTENT = "persistent"
    TMPFS = "tmpfs"
    VERITY = "verity"


class ScratchProfile(StrEnum):
    """How a scratch disk is protected; its content is encrypted in each of them.

    `aead-ram` keeps the blocks' tags in guest memory: changed, moved and replayed blocks are
    refused. `aead-disk` keeps them on the disk and cannot see that the host puts back an old
    block with its old tag. `crypt` has no tags: what the host changes reads as other bytes.
    """

    AEAD_RAM = "aead-ram"
    AEAD_DISK = "aead-disk"
    CRYPT = "crypt"


class VolumeFormat(StrEnum):
    """What a persistent volume's disk looks like.

    `ccinit` has no header and authenticates every block. `luks2` was made elsewhere: its header is
    checked against a whitelist, its blocks are not authenticated. `luks2-sealed` is the same with a
    header that the owner has sealed.
    """

    CCINIT = "ccinit"
    LUKS2 = "luks2"
    LUKS2_SEALED = "luks2-sealed"


class RollbackAnchor(StrEnum):
    """What detects an old state of a persistent volume: nothing, or a counter in the KBS."""

    NONE = "none"
    KBS_COUNTER = "kbs-counter"


@frozen
class ScratchVolume:
    """A disk whose content lives only as long as the guest, under keys made there."""

    WIRE_TAG: ClassVar[str] = "scratch"
    kind: ClassVar[VolumeKind] = VolumeKind.SCRATCH

    name: str
    size_bytes: int
    profile: ScratchProfile


@frozen
class PersistentVolume:
    """A disk in the guest's own format, which has no header; every block is authenticated.

    Attributes:
        key: the owner's.
        grown_from_bytes: sizes that the disk had before; its file system grows from these, and
            from no other, to the size of the disk.
    """

    WIRE_TAG: ClassVar[str] = "persistent"
    kind: ClassVar[VolumeKind] = VolumeKind.PERSISTENT

    name: str
    size_bytes: int
    key: ResourceUri
    rollback: RollbackAnchor = RollbackAnchor.NONE
    grown_from_bytes: tuple[int, ...] = ()


@frozen
class Luks2Volume:
    """A persistent disk that was made elsewhere; its blocks are not authenticated.

    Attributes:
        key: the owner's.
        is_sealed: whether its header must have the owner's seal.
    """

    WIRE_TAG: ClassVar[str] = "luks2"
    kind: ClassVar[VolumeKind] = VolumeKind.PERSISTENT

    name: str
    size_bytes: int
    key: ResourceUri
    is_sealed: bool


@frozen
class TmpfsVolume:
    """An area of the guest's memory."""

    WIRE_TAG: ClassVar[str] = "tmpfs"
    kind: ClassVar[VolumeKind] = VolumeKind.TMPFS

    name: str
    size_bytes: int


@frozen
class VerityVolume:
    """A disk with a file system of erofs, read-only, and its hash tree."""

    WIRE_TAG: ClassVar[str] = "verity"
    kind: ClassVar[VolumeKind] = VolumeKind.VERITY

    name: str
    size_bytes: int
    verity: VerityParameters


KeyedVolume: TypeAlias = PersistentVolume | Luks2Volume
"""Opens with a key of the owner's, whatever its format."""

MadeElsewhere: TypeAlias = VerityVolume | Luks2Volume
"""The guest finds a file system on it and never makes one."""

Volume: TypeAlias = ScratchVolume | TmpfsVolume | VerityVolume | KeyedVolume
"""A disk is selected among the host's disks by its `size_bytes`."""

V = TypeVar("V")


def select_kind(volumes: Iterable[Volume], kind: type[V]) -> tuple[V, ...]:
    """Return the volumes that are of one class, in their order."""
    return tuple(volume for volume in volumes if isinstance(volume, kind))


def check_told_apart(volumes: Iterable[Volume]) -> None:
    """Refuse LUKS2 volumes whose disks the guest could not tell apart, so that none would open.

    A disk is a LUKS2 volume if it has its size and opens with its key; a sealed header names it.

    Raises:
        FormatError: `pod.volume.key`.
    """
    earlier: list[Luks2Volume] = []
    for volume in select_kind(volumes, Luks2Volume):
        for other in earlier:
            is_same = (other.size_bytes, other.key) == (volume.size_bytes, volume.key)
            if is_same and not other.is_sealed:
                raise FormatError(
                    "pod.volume.key",
                    f"{volume.name} opens with the key of {other.name} and has its size, so their"
                    f" disks are not told apart: another key, or format = "
                    f'"{VolumeFormat.LUKS2_SEALED}" for {other.name}',
                )
        earlier.append(volume)


def read_volume(fields: Fields) -> Volume:
    """Read one volume.

    Raises:
        FormatError: `pod.volume.…`.
    """
    kind = fields.choice("kind", VolumeKind)
    _check_keys(fields, kind)
    size_bytes = fields.integer("size_bytes", low=MIN_DISK_BYTES, high=MAX_DISK_BYTES)
    if size_bytes % BLOCK_BYTES:
        raise FormatError("pod.volume.size_bytes", f"not a multiple of {BLOCK_BYTES}")
    name = read_name(fields, "name", "pod.volume")
    match kind:
        case VolumeKind.SCRATCH:
            profile = fields.choice("profile", ScratchProfile, default=ScratchProfile.AEAD_RAM)
            return ScratchVolume(name=name, size_bytes=size_bytes, profile=profile)
        case VolumeKind.PERSISTENT:
            return _read_persistent(fields, name, size_bytes)
        case VolumeKind.TMPFS:
            return TmpfsVolume(name=name, size_bytes=size_bytes)
        case VolumeKind.VERITY:
            verity = read_verity_parameters(fields)
            if verity.device_bytes > size_bytes:
                raise FormatError(
                    "pod.volume.data_blocks", "the disk has no room for the hash tree"
                )
            return VerityVolume(name=name, size_bytes=size_bytes, verity=verity)


def _read_persistent(fields: Fields, name: str, size_bytes: int) -> KeyedVolume:
    key = parse_resource_uri(fields.text("key"), "pod.volume.key")
    form = fields.choice("format", VolumeFormat, default=VolumeFormat.CCINIT)
    rollback = fields.choice("rollback", RollbackAnchor, default=RollbackAnchor.NONE)
    former_sizes = _read_former_sizes(fields, size_bytes)
    if form is VolumeFormat.CCINIT:
        if size_bytes < MIN_JOURNALED_BYTES:
            detail = f"persistent, at least {MIN_JOURNALED_BYTES}"
            raise FormatError("pod.volume.size_bytes", detail)
        return PersistentVolume(
            name=name,
            size_bytes=size_bytes,
            key=key,
            rollback=rollback,
            grown_from_bytes=former_sizes,
        )
    if size_bytes <= _LUKS2_HEADER_BYTES:
        raise FormatError("pod.volume.size_bytes", f"LUKS2, more than {_LUKS2_HEADER_BYTES}")
    if rollback is not RollbackAnchor.NONE:
        # Where blocks are not authenticated, neither is the counter in them.
        raise FormatError("pod.volume.rollback", "only a volume of format ccinit has an anchor")
    if fields.has("grown_from_bytes"):
        # Such a disk can only be grown by the tools that made it.
        raise FormatError("pod.volume.grown_from_bytes", "only a volume of format ccinit grows")
    is_sealed = form is VolumeFormat.LUKS2_SEALED
    return Luks2Volume(name=name, size_bytes=size_bytes, key=key, is_sealed=is_sealed)


def _check_keys(fields: Fields, kind: VolumeKind) -> None:
    if (kind is VolumeKind.PERSISTENT) != fields.has("key"):
        raise FormatError("pod.volume.key", "a persistent volume, and no other, has a key")
    for key, owner in (
        ("profile", VolumeKind.SCRATCH),
        ("format", VolumeKind.PERSISTENT),
        ("rollback", VolumeKind.PERSISTENT),
        ("grown_from_bytes", VolumeKind.PERSISTENT),
        ("root_hash", VolumeKind.VERITY),
        ("salt", VolumeKind.VERITY),
        ("data_blocks", VolumeKind.VERITY),
    ):
        if fields.has(key) and kind is not owner:
            raise FormatError(f"pod.volume.{key}", f"only a {owner} volume has it")


def _read_former_sizes(fields: Fields, size_bytes: int) -> tuple[int, ...]:
    sizes = fields.integers(
        "grown_from_bytes",
        low=MIN_FORMER_BYTES,
        high=size_bytes - BLOCK_BYTES,
        max_items=_MAX_FORMER_SIZES,
    )
    if any(size % BLOCK_BYTES for size in sizes):
        raise FormatError("pod.volume.grown_from_bytes", f"not multiples of {BLOCK_BYTES}")
    return sizes


def read_verity_parameters(fields: Fields) -> VerityParameters:
    """Read what pins a disk's content: `root_hash`, `salt` and `data_blocks`.

    Raises:
        FormatError: the key that is wrong.
    """
    return VerityParameters(
        root_hash=RootHash(fields.hexadecimal("root_hash", size_bytes=HASH_BYTES)),
        salt=Salt(fields.hexadecimal("salt", size_bytes=SALT_BYTES)),
        data_blocks=fields.integer("data_blocks", low=2, high=MAX_DATA_BLOCKS),
    )
