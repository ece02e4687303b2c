"""Compares layers with umoci: the same tars go through our whole pull, and are unpacked by it."""

import gzip
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.pull.image import PulledImage, pull_image, unmount_layers
from ccinit.pull.layer_store import LayerStore
from ccinit.pull.messages.fetch import FoundImage, PulledBlobs, PullLimits, PullRequest
from ccinit.pull.reception import Begin
from ccinit.pull.verdict import Decide
from rootfs_builder.container_image.oci_layout import TAG, ImageLayer, write_layout
from tests.fakes.images.layer_pipes import LayerPipe
from tests.fakes.images.registry import LAYER, FakeImage, make_image
from tests.integration.pull.native_pull import LocalChildren, describe_tree, drive, overlaid
from tests.integration.pull.real_registry import TOOLS


class Downloaded(LocalChildren):
    """The registry child's part is played: the tars are there."""

    def __init__(self, workspace: Path, image: FakeImage, tars: Sequence[bytes]) -> None:
        super().__init__(workspace)
        self.image = image
        self.tars = tars

    async def fetch(
        self,
        request: PullRequest,  # noqa: ARG002
        decide: Decide,  # noqa: ARG002
        begin: Begin,
    ) -> PulledBlobs:
        found = FoundImage(documents=(self.image.manifest,), config=self.image.config)
        sending = await begin(found)
        blobs = [self.image.blobs[name] for name in self.image.blob_names()]
        self.blob_pipe = LayerPipe(blobs[sending.first :])
        self.has_sent.set()
        return PulledBlobs()


def request_for(image: FakeImage) -> PullRequest:
    return PullRequest(
        reference=f"r.example/a@{image.digest}",
        ca_pem="",
        limits=PullLimits(tar_bytes=1 << 30, total_seconds=60),
        encryption=ImageEncryption.ALLOWED,
    )


@contextmanager
def image_of(
    tars: Sequence[bytes], directory: Path, store: LayerStore | None = None
) -> Iterator[PulledImage]:
    """Pull an image of these layers; they are mounted within the block."""
    directory.mkdir()
    image = make_image(tars)
    children = Downloaded(directory, image, tars)
    store = store or LayerStore()
    result = drive(pull_image(request_for(image), str(directory), children, store))
    try:
        yield result
    finally:
        unmount_layers(result.own)


def unpack_with_umoci(tars: Sequence[bytes], directory: Path) -> Path:
    """Return the root that umoci makes of the same layers."""
    directory.mkdir()
    layers = [
        ImageLayer(
            media_type=f"{LAYER}+gzip",
            blob=gzip.compress(tar),
            diff_id=f"sha256:{hashlib.sha256(tar).hexdigest()}",
        )
        for tar in tars
    ]
    write_layout(layers, {}, directory / "layout")
    TOOLS.run(
        ("umoci", "unpack", "--image", f"{directory / 'layout'}:{TAG}", directory / "bundle"),
        directories=(directory,),
    )
    return directory / "bundle" / "rootfs"


def assert_same_tree_as_umoci(tars: Sequence[bytes], work: Path) -> None:
    """Content, modes, owners, links, times and extended attributes agree, path by path."""
    with image_of(tars, work / "pull") as image, overlaid(image, work / "overlay") as merged:
        ours = describe_tree(merged)
    theirs = describe_tree(unpack_with_umoci(tars, work / "umoci"))
    assert ours.keys() == theirs.keys()
    different = {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}
    # umoci leaves "now" as the time of a directory that a layer only adds to.
    assert {
        path for path, (one, two) in different.items() if _without_time(one) != _without_time(two)
    } == set()
    assert {path for path in different if not ours[path][0].startswith("d")} == set()  # type: ignore[attr-defined]


def _without_time(row: tuple[object, ...]) -> tuple[object, ...]:
    return row[:3] + row[4:]
