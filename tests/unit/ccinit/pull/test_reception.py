"""When each child of a reception is asked for, by children that are played here."""

import gzip
from pathlib import Path

import pytest

from ccinit.errors import ChildError
from ccinit.formats.oci.layer_encryption import LayerKey
from ccinit.kernel.event_loop import Event, EventLoop, deadline, sleep
from ccinit.pull.layer_store import LayerStore, StoredLayer
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED
from ccinit.pull.messages.fetch import PulledBlobs, PullRequest
from ccinit.pull.messages.layers import (
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    LayersRequest,
    VerifiedLayers,
)
from ccinit.pull.messages.tars import UnpackReply, UnpackRequest
from ccinit.pull.reception import Begin, receive_layers
from ccinit.pull.tar_files import TarFiles
from ccinit.pull.verdict import Decide, Verdict
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import make_encrypted_image, seal
from tests.fakes.images.layer_pipes import LayerPipe
from tests.unit.ccinit.pull.image_children import REQUEST, TARS, Children

SECONDS = 10.0
"""Until a turn that never comes is a failure."""


class Ordered(Children):
    """Notes who is asked for; each ends when it is its turn, if it has one."""

    def __init__(self, directory: Path, turns: tuple[str, ...]) -> None:
        super().__init__(directory)
        self.turns = {name: Event() for name in turns}
        self.noted: list[str] = []

    def note(self, what: str) -> None:
        self.noted.append(what)
        if what in self.turns:
            self.turns[what].set()

    async def note_in_turn(self, what: str) -> None:
        names = tuple(self.turns)
        async with deadline(SECONDS, "test.turn"):
            for earlier in names[: names.index(what)]:
                await self.turns[earlier].wait()
        await sleep(0.01)  # so that whoever does not wait for this is noted before
        self.note(what)

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        blobs = await super().fetch(request, decide, begin)
        await self.note_in_turn("downloaded")
        return blobs

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        self.note("keys")
        keys = await super().open_keys(image)
        await self.note_in_turn("opened")
        return keys

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        reply = await super().decrypt(request, keys)
        await self.note_in_turn("decrypted")
        return reply

    async def unpack(self, request: UnpackRequest, tars: TarFiles) -> UnpackReply:
        self.note("unpack")
        return await super().unpack(request, tars)

    async def verify(
        self, request: LayersRequest, kept: tuple[StoredLayer, ...], tars: TarFiles
    ) -> VerifiedLayers:
        self.note("verify")
        return await super().verify(request, kept, tars)


def receive(request: PullRequest, children: Ordered) -> list[str]:
    """Receive an image; return what was noted."""
    verdict = Verdict(request.reference, None, children.judge)
    work = receive_layers(request, children.workspace, verdict, LayerStore(), children)
    assert len(EventLoop().run(work).verified.layers) == len(TARS)
    return children.noted


@pytest.mark.parametrize("last", ["downloaded", "opened"])
def test_encrypted_layers_are_read_while_they_are_decrypted_and_by_nobody_before(
    tmp_path: Path, last: str
) -> None:
    """Those who read would take memory beside those who download and open keys.

    And nobody could decrypt more than a pipe holds if they came later.
    """
    first = {"downloaded": "opened", "opened": "downloaded"}[last]
    turns = ("keys", first, last, "unpack", "verify", "decrypted")
    children = Ordered(tmp_path, turns)
    plain, sealed = gzip.compress(TARS[0]), seal(TARS[1])
    children.file = LayerPipe([plain, sealed.blob])
    request = children.find(make_encrypted_image([plain, sealed], TARS))
    assert receive(request, children) == list(turns)


def test_layers_that_are_not_encrypted_are_read_while_they_are_downloaded(tmp_path: Path) -> None:
    turns = ("unpack", "verify", "downloaded")
    assert receive(REQUEST, Ordered(tmp_path, turns)) == list(turns)


class Claiming(Ordered):
    """The registry's child says that its neighbour has ended, before it has one."""

    def __init__(self, directory: Path, *, after_begin: bool) -> None:
        super().__init__(directory, ())
        self.after_begin = after_begin

    async def fetch(self, _request: PullRequest, _decide: Decide, begin: Begin) -> PulledBlobs:
        if self.after_begin:
            assert (await begin(self.found[0])).to_file
        raise ChildError(NEIGHBOUR_ENDED, "nobody reads the layers")


@pytest.mark.parametrize("after_begin", [False, True])
def test_claim_that_a_neighbour_has_ended_before_layers_come_ends_the_pull(
    tmp_path: Path, *, after_begin: bool
) -> None:
    """Nobody else could end: they would wait for layers until the phase's deadline.

    Encrypted layers go into a file, so even while it downloads them the child has no neighbour.
    """
    children = Claiming(tmp_path, after_begin=after_begin)
    request = children.find(make_encrypted_image([gzip.compress(TARS[0]), seal(TARS[1])], TARS))
    with pytest.raises(ChildError) as refused:
        receive(request, children)
    assert refused.value.reason == "child.protocol"
    assert "unpack" not in children.noted
