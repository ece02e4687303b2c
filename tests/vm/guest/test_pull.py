"""Layers under the guest's kernel: erofs over a tar, from files on ext4 and from loop devices.

And compressed ones in memory, made by PID 1's own children in their cgroups.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases.memory_store import close_memory_store, count_used, mount_options
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.processes.children import Children
from ccinit.errors import CcinitError, VerificationError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.oci.image import ImageConfig
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.mount import CONFINED, MountFlag, mount, unmount
from ccinit.pull.erofs.compress import compress_layers
from ccinit.pull.erofs.index import end_with_page, index_arguments
from ccinit.pull.erofs.walk import list_tree
from ccinit.pull.image import (
    IndexedLayers,
    mount_layers,
    unmount_layers,
    verify_trees,
)
from ccinit.pull.layer_store import LayerFiles, claim_alone
from ccinit.pull.layers.tar_pass import LayerPass
from ccinit.pull.layers.tree import TreeLimits, empty_merged_root
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import PassedLayer, VerifiedLayers
from ccinit.pull.messages.tree import TreeDigests
from ccinit.pull.reception import Received
from tests.fakes.images.passed_layers import pass_layer
from tests.vm.guest.disks import blank, disk, format_device, run

CONFIG = ImageConfig(user="", env=(), entrypoint=(), cmd=(), working_dir="", diff_ids=())
REGULAR, LINK = tarfile.REGTYPE, tarfile.LNKTYPE
Entry = tuple[str, bytes, bytes, str]
"""Path, type, content and link target."""


def make_tar(*entries: Entry) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, kind, content, link in entries:
            entry = tarfile.TarInfo(path)
            entry.type, entry.size, entry.linkname = kind, len(content), link
            entry.mtime, entry.uid, entry.mode = 1_700_000_000, 3_000_000, 0o755
            if content == b"x":
                entry.pax_headers = {"SCHILY.xattr.user.a": "b"}
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()


def file(path: str, content: bytes = b"") -> Entry:
    return (path, REGULAR, content, "")


ROOT: Entry = (".", tarfile.DIRTYPE, b"", "")
BOTTOM = make_tar(
    ROOT,
    file("etc/gone", b"x"),
    file("etc/kept", b"1" * 5000),
    file("etc/also", b"2" * 5000),
    ("etc/link", tarfile.SYMTYPE, b"", "kept"),
    ("etc/hard", LINK, b"", "etc/kept"),
)
TOP = make_tar(file("etc/.wh.gone"), file("new/.wh..wh..opq"), file("new/file", b"n"))


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    device = disk("small")
    blank(device)
    run(format_device(device.node, ("-q", device.node)))
    target = tmp_path / "disk"
    target.mkdir()
    mount(device.node, str(target), "ext4")
    yield target
    unmount(str(target))
    blank(device)


@pytest.fixture(autouse=True)
def _stay_here() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)


def receive(passed: tuple[PassedLayer, ...]) -> Received:
    """What the reception of an image leaves that shares no layer."""
    verified = VerifiedLayers(manifest=sha256_digest(b""), config=CONFIG, layers=passed)
    return Received(kept=(), verified=verified, claim=claim_alone(()))


def index(
    directory: Path, tars: tuple[bytes, ...], indexed_tars: tuple[bytes, ...] = ()
) -> IndexedLayers:
    """Pass over the layers and index them, or other tars in their place."""
    merged = empty_merged_root()
    passed = []
    files = []
    for position, data in enumerate(tars):
        tar = directory / f"layer-{position}.tar"
        tar.write_bytes(data)
        fd = os.open(tar, os.O_RDWR)
        passed.append(pass_layer(fd, merged, TreeLimits()))
        os.close(fd)
        layer = LayerFiles(
            tar=str(tar),
            index=str(directory / f"layer-{position}.erofs"),
            mount_point=str(directory / f"layer-{position}"),
        )
        checked = tar.read_bytes()
        if position < len(indexed_tars):
            tar.write_bytes(indexed_tars[position])
        arguments = ("/usr/bin/mkfs.erofs", *index_arguments(layer.tar, layer.index))
        subprocess.run(arguments, check=True, capture_output=True)
        end_with_page(layer.index)
        tar.write_bytes(checked)
        files.append(layer)
    return IndexedLayers(received=receive(tuple(passed)), files=tuple(files))


def walk(indexed: IndexedLayers) -> TreeDigests:
    return TreeDigests(listings=tuple(list_tree(layer.mount_point) for layer in indexed.files))


def check_layers(directory: Path) -> None:
    indexed = index(directory, (BOTTOM, TOP))
    mounted = mount_layers(indexed)
    try:
        image = verify_trees(mounted, walk(indexed))
        assert image.file_bytes == 1 + 5000 + 5000 + 1
        check_overlay(indexed, directory)
    finally:
        os.chdir("/")
        unmount_layers(indexed.files)


def check_overlay(indexed: IndexedLayers, directory: Path) -> None:
    for name in ("upper", "work", "merged"):
        (directory / name).mkdir()
    lower = ":".join(layer.mount_point for layer in reversed(indexed.files))
    options = f"lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work"
    merged = directory / "merged"
    mount("overlay", str(merged), "overlay", MountFlag(0), options)
    try:
        names = {path.name for path in (merged / "etc").iterdir()}
        assert names == {"also", "hard", "kept", "link"}
        assert (merged / "etc/kept").read_bytes() == b"1" * 5000
        assert (merged / "etc/hard").stat().st_uid == 3_000_000
        assert [path.name for path in (merged / "new").iterdir()] == ["file"]
    finally:
        unmount(str(merged))


def test_layers_on_ext4_are_mounted_from_their_files(ext4: Path) -> None:
    check_layers(ext4)
    assert not Path("/sys/block/loop0/loop/backing_file").exists()


def test_layers_on_tmpfs_are_mounted_through_loop_devices(tmp_path: Path) -> None:
    check_layers(tmp_path)


def test_index_whose_files_lie_elsewhere_in_the_tar_is_refused(ext4: Path) -> None:
    # Same names, sizes and owners: only where the content lies tells the two apart.
    one, two = file("a", b"1" * 600), file("b", b"2" * 600)
    for name, indexed_tar, is_good in (
        ("good", make_tar(ROOT, one, two), True),
        ("swapped", make_tar(ROOT, two, one), False),
    ):
        (ext4 / name).mkdir()
        indexed = index(ext4 / name, (make_tar(ROOT, one, two),), (indexed_tar,))
        mounted = mount_layers(indexed)
        try:
            walked = walk(indexed)
            if is_good:
                verify_trees(mounted, walked)
                continue
            with pytest.raises(VerificationError) as refused:
                verify_trees(mounted, walked)
            assert refused.value.reason == "pull.tree"
        finally:
            os.chdir("/")
            unmount_layers(indexed.files)


MIB = 1 << 20
PYTHON = "/usr/bin/python3.13"


@pytest.fixture
def store() -> Iterator[Path]:
    """A store in memory of 24 MiB, as UNLOCK mounts it; other users may pass through."""
    path = Path("/run/store-in-memory")
    path.mkdir(mode=0o711)
    mount("tmpfs", str(path), "tmpfs", CONFINED, mount_options(24 * MIB))
    yield path
    run(close_memory_store(str(path)))
    path.rmdir()


@pytest.fixture
def children() -> Iterator[Children]:
    """PID 1's children, each in a cgroup of its own."""
    root = Cgroup()
    root.enable(("memory", "pids"))
    group = root.create("test-store")
    group.enable(("memory", "pids"))
    yield Children((PYTHON, "-m", "ccinit"), {"PYTHONPATH": "/src:/site"}, group)
    group.remove()


def image_children(children: Children, directory: Path) -> ImageChildren:
    guest: Any = SimpleNamespace(children=children)
    unused: Any = None
    return ImageChildren(guest, unused, str(directory), unused, unused, seconds=300.0)


def write_passed(directory: Path, tars: tuple[bytes, ...]) -> tuple[PassedLayer, ...]:
    """Leave what the child `layers` does."""
    directory.mkdir()
    merged, passed = empty_merged_root(), []
    for position, data in enumerate(tars):
        layer = LayerPass(merged, TreeLimits(), LayerForm.COMPRESSED)
        layer.feed(memoryview(data))
        tar = directory / f"layer-{position}.tar"
        tar.write_bytes(data)
        outline = directory / f"layer-{position}.outline.tar"
        with tar.open("r+b") as file, outline.open("wb") as target:
            passed.append(layer.finish(file.fileno(), target.write))  # type: ignore[arg-type]
    return tuple(passed)


def compress(children: Children, directory: Path, passed: tuple[PassedLayer, ...]) -> IndexedLayers:
    made = image_children(children, directory)
    positions = range(len(passed))
    files = run(compress_layers(str(directory), positions, made, made.owners.compress))
    return IndexedLayers(received=receive(passed), files=files)


def test_layers_in_memory_are_compressed_and_show_their_tars(
    store: Path, children: Children
) -> None:
    big = make_tar(ROOT, file("big", b"compresses well " * (10 * MIB // 16)))
    passed = write_passed(store / "image", (big, BOTTOM, TOP))
    before, _free = count_used(str(store))
    children.store_bytes = 24 * MIB
    indexed = compress(children, store / "image", passed)
    mounted = mount_layers(indexed)
    try:
        roots = [layer.mount_point for layer in indexed.files]
        listings = tuple(list_tree(root, LayerForm.COMPRESSED) for root in roots)
        verify_trees(mounted, TreeDigests(listings=listings))
        used, _free = count_used(str(store))
        assert used < before // 10
        assert not list((store / "image").glob("layer-?.tar"))
        check_overlay(indexed, store)
    finally:
        os.chdir("/")
        unmount_layers(indexed.files)


def test_store_that_is_full_is_told_as_that(store: Path, children: Children) -> None:
    """13 MiB that do not compress: with their copy they are more than there is room for."""
    children.store_bytes = 24 * MIB
    passed = write_passed(store / "image", (make_tar(ROOT, file("noise", os.urandom(13 * MIB))),))
    with pytest.raises(CcinitError) as refused:
        compress(children, store / "image", passed)
    assert refused.value.reason == "pull.enospc"
