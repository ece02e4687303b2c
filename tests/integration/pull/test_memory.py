"""Images without a scratch disk: compressed erofs on a bounded tmpfs, by loop devices.

The shapes are those of `test_layers`, where umoci says that what the other form shows is
right; here both forms must show the same. Memory is what the tmpfs says of itself.
"""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.images import pull
from ccinit.agent.phases.memory_store import (
    INODE_BYTES,
    close_memory_store,
    count_used,
    mount_options,
)
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.processes.children import Children
from ccinit.errors import CcinitError
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.mount import CONFINED, detach, mount
from ccinit.pull.image import PulledImage, pull_image, unmount_layers
from ccinit.pull.layer_store import LayerStore
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.run.rootfs import activate_rootfs
from tests.fakes.images.hostile_registry import serve_hostile
from tests.fakes.images.registry import REPOSITORY, FakeImage, make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.layer_oracle import Downloaded, image_of, request_for
from tests.integration.pull.mkfs_child import LOADER_ARGUMENTS, TABLE
from tests.integration.pull.native_pull import compress_here, describe_tree, drive, overlaid
from tests.integration.pull.real_registry import Authority
from tests.integration.pull.test_encrypted import configured_with, guest_with_children
from tests.integration.pull.test_layers import BASE, GOOD, LAYERS, TREES

MIB = 1 << 20
RANDOM = random.Random(1)  # noqa: S311  # content that does not compress
ROOT = Entry(".", None, mtime=0)


def words(size_bytes: int) -> bytes:
    """Content that compresses to something less than a half."""
    line = b"".join(RANDOM.choice((b"alpha ", b"beta ", b"gamma ", b"delta ")) for _ in range(4096))
    return (line * (size_bytes // len(line) + 1))[:size_bytes]


@contextmanager
def store_of(size_bytes: int, directory: Path) -> Iterator[Path]:
    """Mount a store as the guest does; nothing of it may still be in use in the end."""
    directory.mkdir()
    mount("tmpfs", str(directory), "tmpfs", CONFINED, mount_options(size_bytes))
    try:
        yield directory
    finally:
        drive(close_memory_store(str(directory)))


@contextmanager
def most_used(directory: Path) -> Iterator[list[int]]:
    """Watch a tmpfs; the list has the most bytes that it has held."""
    most, over = [0], Event()

    def watch() -> None:
        while not over.wait(0.001):
            most[0] = max(most[0], count_used(str(directory))[0])

    thread = Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", LAYERS)
def test_compressed_layers_give_the_tree_of_the_indexed_ones(tmp_path: Path, name: str) -> None:
    tars = LAYERS[name]
    with (
        image_of(tars, tmp_path / "indexed") as image,
        overlaid(image, tmp_path / "overlay") as merged,
    ):
        expected = describe_tree(merged)
    with (
        store_of(64 * MIB, tmp_path / "store") as store,
        image_of(tars, store / "image", LayerStore(LayerForm.COMPRESSED)) as image,
        overlaid(image, tmp_path / "again") as merged,
    ):
        assert describe_tree(merged) == expected
        files = {path.name for path in (store / "image").iterdir() if path.is_file()}
        ends = ("erofs", "outline.tar")
        assert files == {f"layer-{n}.{end}" for n in range(len(tars)) for end in ends}


CONTENT = words(9 * MIB)
LARGE = (
    make_tar(ROOT, Entry("a", CONTENT), Entry("b", words(3 * MIB))),
    make_tar(Entry("c", words(5 * MIB)), *(Entry(f"d/{n}", words(700)) for n in range(500))),
)


def test_memory_of_an_image_is_its_tars_and_one_compressed_layer_at_most(tmp_path: Path) -> None:
    tars = sum(map(len, LARGE))
    with store_of(64 * MIB, tmp_path / "store") as store:
        with (
            most_used(store) as most,
            image_of(LARGE, store / "image", LayerStore(LayerForm.COMPRESSED)) as image,
        ):
            sizes = [Path(layer.index).stat().st_size for layer in image.layers]
            used, _free = count_used(str(store))
            whole = (Path(image.layers[0].mount_point) / "a").read_bytes()
        # each file begins a page in the copy of mkfs.erofs, and 2 MiB are on the way
        pages = 503 * 4096
        assert tars <= most[0] <= tars + max(sizes) + pages + 2 * MIB
        assert used <= sum(sizes) + MIB
        assert sum(sizes) < 0.7 * tars
        assert whole == CONTENT


NOISE = (make_tar(ROOT, Entry("noise", RANDOM.randbytes(6 * MIB))),)


@pytest.mark.parametrize(
    ("size_bytes", "step"), [(4 * MIB, "verify"), (9 * MIB, "compress"), (16 * MIB, "")]
)
def test_image_that_does_not_fit_is_refused_for_that(
    tmp_path: Path, size_bytes: int, step: str
) -> None:
    """Where its tar does not fit, where what is made of it does not, and where both do."""
    image = make_image(NOISE)
    with store_of(size_bytes, tmp_path / "store") as store:
        (store / "image").mkdir()
        children = Counting(store / "image", image, NOISE)
        form = LayerStore(LayerForm.COMPRESSED)
        work = pull_image(request_for(image), str(store / "image"), children, form)
        if not step:
            unmount_layers(drive(work).own)
            return
        with pytest.raises(CcinitError) as refused:
            drive(work)
        assert refused.value.reason == "pull.enospc"
        assert children.compressions == (step == "compress")
        assert not (store / "image" / "layer-0").exists()


class Counting(Downloaded):
    compressions = 0

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        self.compressions += 1
        await super().compress(tar, arguments)


class Cheat(Downloaded):
    """mkfs.erofs works on another archive than the one that was checked."""

    def __init__(self, workspace: Path, image: FakeImage, tar: bytes, other: bytes) -> None:
        super().__init__(workspace, image, (tar,))
        self.other = other

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        replace_content(Path(tar), self.other)
        compress_here(tar, arguments)


def replace_content(path: Path, data: bytes) -> None:
    path.write_bytes(data)


OTHER_TREES = {
    **TREES,
    "content of the other": (Entry("a", b"2" * 600), Entry("b", b"1" * 600)),
    "one byte of a file": (Entry("a", b"1" * 599 + b"x"), GOOD[1]),
    "the same": GOOD,
    "the same in another order": GOOD[::-1],
}


@pytest.mark.parametrize("name", OTHER_TREES)
def test_file_system_that_shows_another_tree_is_refused(tmp_path: Path, name: str) -> None:
    tar, entries = make_tar(ROOT, *GOOD), OTHER_TREES[name]
    other = make_tar(*((ROOT, *entries) if entries[0].path != "." else entries))
    image = make_image([tar])
    with store_of(16 * MIB, tmp_path / "store") as store:
        directory = store / "image"
        directory.mkdir()
        cheat = Cheat(directory, image, tar, other)
        form = LayerStore(LayerForm.COMPRESSED)
        work = pull_image(request_for(image), str(directory), cheat, form)
        if name.startswith("the same"):
            unmount_layers(drive(work).own)
            return
        with pytest.raises(CcinitError) as refused:
            drive(work)
        assert refused.value.reason in {"pull.tree", "tree.kind"}
        assert not (directory / "layer-0").is_mount()


def test_image_stands_on_layers_whose_tars_are_gone(tmp_path: Path) -> None:
    """As it would alone: what its top layer does not say comes from those below."""
    top = make_tar(Entry("etc/dir/new", b"n"), Entry("tmp/x"), Entry("fresh/y"))
    with store_of(32 * MIB, tmp_path / "store") as store:
        shared = LayerStore(LayerForm.COMPRESSED)
        with (
            image_of((BASE,), store / "lower", shared) as lower,
            image_of((BASE, top), store / "upper", shared) as upper,
            image_of((BASE, top), store / "alone", LayerStore(LayerForm.COMPRESSED)) as alone,
        ):
            assert upper.layers[0] == lower.layers[0]
            assert (len(upper.own), len(alone.own)) == (1, 2)
            trees = [describe_tree(Path(image.layers[1].mount_point)) for image in (upper, alone)]
            assert trees[0] == trees[1]
            assert trees[0]["etc/dir"][:3] == ("drwx------", 5, 6)


class Confined(ImageChildren):
    """The agent's children, all with their rights; mkfs.erofs is the tools tree's."""

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        await super().compress(tar, (*LOADER_ARGUMENTS, *arguments))


def pull_confined(
    image: FakeImage, authority: Authority, store: Path
) -> tuple[Any, dict[str, PulledImage], list[str]]:
    """Pull by the agent; return its guest, the images, and what the owner is told."""
    guest = guest_with_children()
    events: list[str] = []
    path = os.pathsep.join(filter(None, (str(Path.cwd()), *sys.path)))
    environment = {"PYTHONPATH": path, "CCINIT_TOOLS": os.environ.get("CCINIT_TOOLS", "")}
    program = (sys.executable, "-m", "tests.integration.pull.mkfs_child")
    guest.children = Children(program, environment, table=TABLE)
    guest.event = events.append
    with serve_hostile(image, authority.server_context()) as registry:
        one = Image(
            name="web",
            reference=f"localhost:{registry.port}/{REPOSITORY}@{image.digest}",
            policy=None,
            auth=None,
            ca_pem=authority.ca_pem,
        )
        unlocked = Unlocked(volumes={}, store=str(store), in_memory=True)
        done = EventLoop().run(pull(guest, configured_with(one), Attested(grants={}), unlocked))
    return guest, dict(done.images), events


@pytest.fixture
def _confined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccinit.agent.phases.images.ImageChildren", Confined)


@pytest.mark.usefixtures("_confined")
def test_children_pull_into_memory_with_no_more_rights_than_theirs(
    authority: Authority, tmp_path: Path
) -> None:
    with store_of(64 * MIB, tmp_path / "store") as store:
        open_to_pass(tmp_path)
        guest, images, events = pull_confined(make_image(LARGE), authority, store)
        used, free = count_used(str(store))
        assert events[-1] == f"images take {used} bytes of memory; containers may write {free}"
        assert used + free == 64 * MIB
        image = images["web"]
        run_container(image, store, free)
        EventLoop().run(guest.teardown.run())


def run_container(image: PulledImage, store: Path, free_bytes: int) -> None:
    """What a container writes lies on the same tmpfs, and ends with ENOSPC, which frees again."""
    lowers = tuple(layer.mount_point for layer in reversed(image.layers))
    root = str(store / "root")
    activate_rootfs(lowers, str(store / "container-web"), root)
    try:
        big = Path(root, "big")
        with pytest.raises(OSError, match="No space left"):
            fill(big, free_bytes)
        assert free_bytes - 2 * MIB < big.stat().st_size <= free_bytes
        assert Path(root, "a").read_bytes() == CONTENT
        big.unlink()
        assert count_used(str(store))[1] > free_bytes - MIB
        Path(root, "d/0").write_bytes(b"again")  # copied up
        assert Path(root, "d/0").read_bytes() == b"again"
    finally:
        detach(root)


def fill(path: Path, free_bytes: int) -> None:
    """Write more than there is room for."""
    with path.open("wb", buffering=0) as file:
        while file.tell() <= free_bytes:
            assert file.write(bytes(MIB))


@pytest.mark.usefixtures("_confined")
def test_agent_tells_a_full_store_from_other_failures(authority: Authority, tmp_path: Path) -> None:
    for size_bytes, reason in ((9 * MIB, "pull.enospc"), (16 * MIB, "")):
        with store_of(size_bytes, tmp_path / f"store-{size_bytes}") as store:
            open_to_pass(tmp_path)
            if not reason:
                guest, _images, _events = pull_confined(make_image(NOISE), authority, store)
                EventLoop().run(guest.teardown.run())
                continue
            with pytest.raises(CcinitError) as refused:
                pull_confined(make_image(NOISE), authority, store)
            assert refused.value.reason == reason
            assert "mkfs.erofs" in refused.value.detail


def open_to_pass(path: Path) -> None:
    """Let other users pass through; pytest's folders are private."""
    for folder in (path, *path.parents):
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o111)


def touch(directory: Path, files: int) -> None:
    for number in range(files):
        (directory / str(number)).touch()


def test_store_has_no_more_files_than_it_says(tmp_path: Path) -> None:
    with store_of(MIB, tmp_path / "store") as store:
        most = MIB // INODE_BYTES
        with pytest.raises(OSError, match="No space left"):
            touch(store, most + 1)
        assert len(list(store.iterdir())) in {most - 1, most}
