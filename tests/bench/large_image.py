"""An image of about 500 MB, as a Dockerfile's `RUN apt-get install …` makes it, packed in some way.

Files of the tools tree, in the order of their names, until there is enough: thousands of small
ones, and some of 20 MB and more. Equal trees give equal images. Each is kept, since packing takes
half a minute.
"""

import enum
import gzip
import hashlib
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zstandard

from rootfs_builder.container_image.layer_tar import EPOCH
from rootfs_builder.container_image.oci_layout import (
    LAYER_TYPE,
    ContainerImage,
    ImageLayer,
    write_layout,
)
from tests.bench.guest_root import remove_others
from tests.bench.measurement import Bench

FOLDERS = ("usr/share", "usr/lib", "usr/bin")
FILE_BYTES = 508_000_000
_VERSION = b"2"
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
MANY_LAYERS = 60


class Sink(Protocol):
    """What a tar is written to."""

    def write(self, data: bytes, /) -> int:
        """Take the next bytes."""


class Packing(enum.Enum):
    """How the files are put into layers."""

    GZIP = "one gzip layer"
    ZSTD = "one zstd layer"
    MANY = "60 gzip layers"

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return MANY_LAYERS if self is Packing.MANY else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeImage:
    """The image and what is in it.

    Attributes:
        files: regular files in it.
        file_bytes: sum of their sizes.
    """

    image: ContainerImage
    files: int
    file_bytes: int


def open_large_image(bench: Bench, packing: Packing = Packing.GZIP) -> LargeImage:
    """Return the image, made unless the cache has it."""
    paths = tuple(select_files(bench.tools.path, FILE_BYTES))
    sizes = [path.lstat().st_size for path in paths if is_plain(path)]
    folder = f"image-{packing.name.lower()}"
    target = bench.cache / f"{folder}-{_key(bench.tools.path, paths)}"
    summary = target / "summary.json"
    if not summary.is_file():
        size = f"{sum(sizes) / 1e6:.0f} MB, {len(sizes)} files"
        bench.say(f"packing an image of {size} in {packing.value} (half a min)")
        remove_others(bench.cache, f"{folder}-*")
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        layers = [pack(bench.tools.path, part, packing) for part in split(paths, packing.layers)]
        made = write_layout(layers, {"Cmd": ["/usr/bin/true"]}, partial)
        (partial / "summary.json").write_text(
            json.dumps({"digest": made.digest, "bytes": made.bytes})
        )
        partial.rename(target)
    known = json.loads(summary.read_text())
    return LargeImage(
        image=ContainerImage(layout=target, digest=known["digest"], bytes=known["bytes"]),
        files=len(sizes),
        file_bytes=sum(sizes),
    )


def split(paths: tuple[Path, ...], parts: int) -> Iterator[tuple[Path, ...]]:
    """Yield the paths in that many parts of nearly equal length."""
    for part in range(parts):
        yield paths[part * len(paths) // parts : (part + 1) * len(paths) // parts]


def select_files(root: Path, enough_bytes: int) -> Iterator[Path]:
    """Yield directories, links and files below `FOLDERS` until the files have `enough_bytes`."""
    total = 0
    for folder in FOLDERS:
        for path in (root / folder, *sorted((root / folder).rglob("*"))):
            if path.is_symlink() or path.is_dir():
                yield path
            elif is_plain(path):
                total += path.lstat().st_size
                if total > enough_bytes:
                    return
                yield path


def is_plain(path: Path) -> bool:
    """Whether the path itself is a regular file."""
    return stat.S_ISREG(path.lstat().st_mode)


def pack(root: Path, paths: tuple[Path, ...], packing: Packing = Packing.GZIP) -> ImageLayer:
    """Return the layer: tar and compression in one pass, both hashed by content."""
    blob = io.BytesIO()
    with _compressor(blob, packing) as packed:
        stream = _Hashed(packed)
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in paths:
                _add(tar, root, path)
    return ImageLayer(
        media_type=f"{LAYER_TYPE}+{'zstd' if packing is Packing.ZSTD else 'gzip'}",
        blob=blob.getvalue(),
        diff_id=f"sha256:{stream.digest.hexdigest()}",
    )


def _compressor(blob: io.BytesIO, packing: Packing) -> AbstractContextManager[Sink]:
    if packing is Packing.ZSTD:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        return compressor.stream_writer(blob, closefd=False)
    return gzip.GzipFile(filename="", mode="wb", fileobj=blob, compresslevel=_GZIP_LEVEL, mtime=0)


def _add(tar: tarfile.TarFile, root: Path, path: Path) -> None:
    entry = tarfile.TarInfo(str(path.relative_to(root)))
    status = path.lstat()
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode) & 0o755, EPOCH
    if path.is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(entry)
    elif path.is_dir():
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    else:
        entry.size = status.st_size
        with path.open("rb") as content:
            tar.addfile(entry, content)


class _Hashed(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        return self._target.write(data)


def _key(root: Path, paths: tuple[Path, ...]) -> str:
    """Return what decides the image: the names and sizes of its files."""
    digest = hashlib.sha256(_VERSION)
    for path in paths:
        digest.update(f"{path.relative_to(root)} {path.lstat().st_size}\n".encode())
    return digest.hexdigest()[:16]
