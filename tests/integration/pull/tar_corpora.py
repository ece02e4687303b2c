"""Tar archives that others test their readers with, as far as Debian ships them.

Go's archive/tar and CPython's testtar. The latter is one archive of seventy forms, most of which
some reader stumbles over, so it is cut into its entries: each becomes an archive of its own, with
the entry that a hard link needs before it. Packages are downloaded once and kept; apt verifies
them. Nothing of them is executed.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ccinit.errors import ConfigError
from tests.integration.pull.real_registry import TOOLS

CACHE = Path("build/cache/corpora")
PACKAGES = ("golang-1.24-src", "libpython3.13-testsuite")
_FOLDERS = {
    "./usr/share/go-1.24/src/archive/tar/testdata/": "go",
    "./usr/lib/python3.13/test/archivetestdata/": "python",
}
_MAX_ARCHIVE_BYTES = 1 << 20


_END = bytes(1024)


def open_corpora(directory: Path = CACHE) -> dict[str, bytes]:
    """Return every archive of at most 1 MiB by `CORPUS/FILE`, and `python/FORM/ENTRY`."""
    directory = directory.resolve()
    archives = {
        name: data
        for package in PACKAGES
        for name, data in _archives(_fetch(directory, package), directory)
    }
    return archives | dict(_cut(archives.pop("python/testtar.tar")))


def _cut(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="latin-1") as tar:
        members = tar.getmembers()
    ends = [member.offset for member in members[1:]] + [len(archive)]
    pieces = {
        member.name: archive[member.offset : end] for member, end in zip(members, ends, strict=True)
    }
    for member in members:
        before = pieces[member.linkname.removeprefix("./")] if member.islnk() else b""
        parts = Path(member.name.encode("ascii", "replace").decode()).parts
        name = "/".join(("python", parts[0], *parts[1:][-2:]))
        # The last piece has the archive's end; more zeros behind it do no harm.
        yield name, before + pieces[member.name] + _END


def _fetch(directory: Path, package: str) -> Path:
    found = sorted(directory.glob(f"{package}_*.deb"))
    if not found:
        (directory / "lists/partial").mkdir(parents=True, exist_ok=True)
        try:
            _apt(directory, "download", package)
        except ConfigError:  # no lists yet, or the archive has moved on
            _apt(directory, "update")
            _apt(directory, "download", package)
        found = sorted(directory.glob(f"{package}_*.deb"))
    return found[-1]


def _apt(directory: Path, *arguments: str) -> None:
    options = (
        *("-o", f"Dir::State::lists={directory / 'lists'}", "-o", "Dir::Cache::pkgcache="),
        *("-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Sandbox::User=root", "-q"),
    )
    TOOLS.run(
        ("apt-get", *options, *arguments), directories=(directory,), working_directory=directory
    )


def _archives(package: Path, directory: Path) -> Iterator[tuple[str, bytes]]:
    content = TOOLS.run(("dpkg-deb", "--fsys-tarfile", package), directories=(directory,))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            for folder, corpus in _FOLDERS.items():
                is_archive = member.name.endswith(".tar") and member.size <= _MAX_ARCHIVE_BYTES
                if is_archive and member.isfile() and member.name.startswith(folder):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield f"{corpus}/{Path(member.name).name}", file.read()
