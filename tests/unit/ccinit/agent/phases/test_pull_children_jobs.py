"""What each child of a pull is given and may ask for, and what PID 1 makes of its end."""

import fcntl
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases.pull_children import ImageChildren, OpenKeys
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import CcinitError, ChildError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.pipes import open_pipes
from ccinit.pull.erofs.index import IndexReply, IndexRequest
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED, SINK, SOURCE
from ccinit.pull.messages.feed import FedTar
from ccinit.pull.messages.fetch import FoundImage, SendLayers
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import KEYS_PIPE, DecryptReply
from ccinit.pull.messages.tars import GrowingTar, KeptTar, NewTar, OpenedTar, UnpackReply
from ccinit.pull.messages.tree import LISTING_PARTS, TreeDigests, TreeRequest, share_parts
from ccinit.secret import Secret
from tests.fakes.machine.scarcity import count_descriptors

IMAGE = Image(name="web", reference="", policy=None, auth=None, ca_pem="")
FOUND = FoundImage(documents=(), config=b"")
UNUSED: Any = None
Job = Callable[..., Any]
"""What a child does with its request and the answers that it may ask for."""


class FakeChild:
    """Does one job in PID 1's place."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def run(
        self, request: object, *_reply: type, seconds: float, answers: Any = None, **_told: object
    ) -> Any:
        assert seconds == 7
        return await self._job(request, answers or {})


class Children:
    """Starts what `jobs` says, and keeps copies of the descriptors that each child got."""

    def __init__(self, jobs: Mapping[Role, Job]) -> None:
        self._jobs = jobs
        self.started: list[tuple[Role, str]] = []
        self.given: dict[str, int] = {}

    @asynccontextmanager
    async def prepare(
        self, role: Role, *, fds: Mapping[str, int], workspace: str = ""
    ) -> AsyncIterator[FakeChild]:
        self.started.append((role, workspace))
        self.given |= {name: os.dup(fd) for name, fd in fds.items()}
        yield FakeChild(self._jobs[role])

    @asynccontextmanager
    async def prepare_program(
        self, role: Role, *, workspace: str, stdin: int
    ) -> AsyncIterator[FakeChild]:
        async with self.prepare(role, fds={"stdin": stdin}, workspace=workspace) as child:
            yield child


@pytest.fixture
def opened() -> Iterator[Callable[[Mapping[Role, Job]], Children]]:
    """Return a function that makes `Children`; their copies of descriptors are closed after."""
    made: list[Children] = []

    def make(jobs: Mapping[Role, Job]) -> Children:
        made.append(Children(jobs))
        return made[-1]

    yield make
    for children in made:
        for fd in children.given.values():
            os.close(fd)


Make = Callable[[Mapping[Role, Job]], Children]


def pulling(
    children: Children,
    directory: Path,
    *,
    form: LayerForm = LayerForm.INDEX,
    open_keys: OpenKeys = UNUSED,
    **reception: object,
) -> ImageChildren:
    guest: Any = SimpleNamespace(children=children, event=lambda _text: None)
    parts: Any = SimpleNamespace(**reception)
    return ImageChildren(guest, IMAGE, str(directory), parts, open_keys, seconds=7, form=form)


def job(reply: object) -> Job:
    """Return a job that ends with `reply`, or with that error."""

    async def work(_request: object, _answers: object) -> object:
        if isinstance(reply, CcinitError):
            raise reply
        return reply

    return work


def asking(question: object, into: list[Any], reply: object = None) -> Job:
    """Return a job that asks one question."""

    async def work(_request: object, answers: Any) -> object:
        into.append(await answers[type(question)](question))
        return reply

    return work


def begin(**sending: object) -> Any:
    async def begun(_asked: object) -> Any:
        return SimpleNamespace(**sending)

    return begun


def run(work: Coroutine[object, None, Any]) -> Any:
    return EventLoop().run(work)


def ended(*, well: bool = True, output: str = "") -> object:
    return SimpleNamespace(status=SimpleNamespace(is_success=lambda: well), output=output)


NEIGHBOUR = ChildError(NEIGHBOUR_ENDED, "nobody reads the layers")


@pytest.mark.parametrize(
    ("fed", "end", "reason", "detail"),
    [
        (FedTar(), ended(), "", ""),
        (FedTar(), ended(well=False, output="no space"), "pull.index", "no space"),
        (FedTar(), ended(well=False), "pull.index", "mkfs.erofs"),
        (FedTar(), ended(output="odd"), "pull.index", "complains: odd"),
        (NEIGHBOUR, ended(), "pull.index", "has not read the whole tar"),
        (NEIGHBOUR, ended(well=False, output="no space"), "pull.index", "no space"),
        (ChildError("child.ended", "signal 11"), ended(), "child.ended", "signal 11"),
    ],
)
def test_compressed_layer_counts_if_all_of_its_tar_was_read_without_a_complaint(
    opened: Make, tmp_path: Path, fed: object, end: object, reason: str, detail: str
) -> None:
    tar = tmp_path / "layer-0.tar"
    tar.write_bytes(b"tar")
    children = opened({Role.FEED: job(fed), Role.COMPRESS: job(end)})
    before = count_descriptors()
    compressing = pulling(children, tmp_path).compress(str(tar), ("-z",))
    if reason:
        with pytest.raises(ChildError) as refused:
            run(compressing)
        assert (refused.value.reason, detail in refused.value.detail) == (reason, True)
    else:
        run(compressing)
    assert count_descriptors() == before + len(children.given)  # those are copies
    assert children.started == [(Role.FEED, ""), (Role.COMPRESS, str(tmp_path))]
    source, sink, stdin = (children.given[name] for name in (SOURCE, SINK, "stdin"))
    assert Path(f"/proc/self/fd/{source}").samefile(tar)
    assert fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR  # to free what was read
    assert os.write(sink, b"tar") == len(os.read(stdin, 9))


def test_tar_that_is_a_link_is_not_followed(opened: Make, tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(b"")
    (tmp_path / "layer-0.tar").symlink_to("tar")
    with pytest.raises(CcinitError) as refused:
        run(pulling(opened({}), tmp_path).compress(str(tmp_path / "layer-0.tar"), ()))
    assert "ELOOP" in str(refused.value)


@pytest.mark.parametrize("position", [-1, 1])
def test_reader_of_tars_gets_no_other_layer_than_those_that_are_there(
    opened: Make, tmp_path: Path, position: int
) -> None:
    tar = tmp_path / "kept.tar"
    tar.write_bytes(b"tar")
    kept: Any = (SimpleNamespace(files=SimpleNamespace(tar=str(tar))),)
    answers: list[Any] = []

    def ask(position: int) -> None:
        reader = FakeChild(asking(KeptTar(position=position), answers))
        run(pulling(opened({}), tmp_path, layers=reader).verify(UNUSED, kept, UNUSED))

    ask(0)
    (answer,) = answers
    assert answer.value == OpenedTar()
    (fd,) = answer.fds
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert os.read(fd, 9) == b"tar"
    os.close(fd)
    with pytest.raises(ChildError) as refused:
        ask(position)
    assert refused.value.reason == "child.protocol"
    assert len(answers) == 1


def test_who_was_not_started_ahead_gets_the_ends_of_the_pipes_alone(
    opened: Make, tmp_path: Path
) -> None:
    appending: list[Any] = []
    verifying: list[Any] = []
    children = opened(
        {
            Role.UNPACK: asking(NewTar(position=3), appending, UnpackReply()),
            Role.LAYERS: asking(GrowingTar(position=3), verifying),
            Role.INDEX: job(IndexReply()),
        }
    )
    blobs, words = open_pipes(2)
    pipes = SimpleNamespace(
        of_unpack={"blobs": Descriptor(blobs.reader), "tell": Descriptor(words.writer)},
        of_layers={"hear": Descriptor(words.reader)},
    )
    tars: Any = SimpleNamespace(open_to_append=lambda at: (at,), open_to_verify=lambda at: (at, 4))

    async def receive() -> None:
        before = count_descriptors()
        async with pulling(children, tmp_path, unpack=None, layers=None, pipes=pipes) as image:
            assert await image.unpack(UNUSED, tars) == UnpackReply()
            assert children.given.keys() == {"blobs", "tell"}
            await image.verify(UNUSED, (), tars)
        held = count_descriptors()  # the children have what PID 1 had
        assert held == before - 3 + len(children.given)

    run(receive())
    assert (appending[0].fds, verifying[0].fds) == ((3,), (3, 4))
    assert children.given.keys() == {"blobs", "tell", "hear"}
    assert os.write(blobs.writer, b"blob") == len(os.read(children.given["blobs"], 9))
    assert os.write(children.given["tell"], b"words") == len(os.read(children.given["hear"], 9))
    os.close(blobs.writer)


def test_encrypted_layers_go_to_a_file_without_a_name_and_from_there_to_the_one_with_keys(
    opened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a folder cannot have such files, one that is unlinked at once is in their place."""
    asked: list[tuple[object, ...]] = []
    unpatched = os.open

    def open_file(path: str, *how: int) -> int:
        asked.append((path, *how))
        fd = unpatched(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        (tmp_path / "file").unlink()
        return fd

    monkeypatch.setattr(os, "open", open_file)
    answers: list[Any] = []
    registry = FakeChild(asking(FOUND, answers))
    children = opened({Role.DECRYPT: job(DecryptReply())})
    (pipe,) = open_pipes(1)
    pipes = SimpleNamespace(blobs_in=Descriptor(pipe.writer))
    inspected: Any = object()
    unwrapped: Any = object()
    keys = Secret(b"keys")

    async def open_keys(image: object) -> Any:
        assert (image, children.started) == (inspected, [])
        return unwrapped

    async def pull() -> None:
        before = count_descriptors()
        image = pulling(children, tmp_path, open_keys=open_keys, registry=registry, pipes=pipes)
        async with image:
            with pytest.raises(RuntimeError):
                await image.decrypt(UNUSED, keys)
            with pytest.raises(RuntimeError):
                await image.open_keys(inspected)
            await image.fetch(UNUSED, UNUSED, begin(first=2, to_file=True))
            assert await image.open_keys(inspected) == unwrapped
            (sink,) = answers[0].fds
            os.write(sink, b"cipher")
            os.close(sink)  # as by whoever sends it
            os.set_blocking(children.given[KEYS_PIPE], False)
            with pytest.raises(BlockingIOError):  # whoever waits for a job has no secret
                os.read(children.given[KEYS_PIPE], 9)
            assert await image.decrypt(UNUSED, keys) == DecryptReply()
            held = count_descriptors()  # the pipe's end is the child's
            assert held == before - 1 + len(children.given)

    run(pull())
    assert answers[0].value == SendLayers(first=2)
    assert asked == [(str(tmp_path), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)]
    assert os.pread(children.given[SOURCE], 9, 0) == b"cipher"
    assert os.read(children.given[KEYS_PIPE], 9) == b"keys"
    assert os.read(children.given[KEYS_PIPE], 9) == b""
    assert os.write(children.given[SINK], b"plain") == len(os.read(pipe.reader, 9))
    os.close(pipe.reader)


def test_file_and_pipe_of_layers_that_are_never_decrypted_are_closed_with_the_pull(
    opened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpatched = os.open
    monkeypatch.setattr(os, "open", lambda _path, *_how: unpatched(os.devnull, os.O_RDWR))
    answers: list[Any] = []
    registry = FakeChild(asking(FOUND, answers))
    children = opened({Role.DECRYPT: job(DecryptReply())})
    (pipe,) = open_pipes(1)
    pipes = SimpleNamespace(blobs_in=Descriptor(pipe.writer))

    async def pull() -> None:
        image = pulling(children, tmp_path, open_keys=begin(), registry=registry, pipes=pipes)
        async with image:
            await image.fetch(UNUSED, UNUSED, begin(first=0, to_file=True))
            os.close(*answers[0].fds)
            await image.open_keys(UNUSED)

    before = count_descriptors()
    run(pull())
    assert count_descriptors() == before - 1 + len(children.given)  # the pipe's end is the child's
    assert os.read(children.given[KEYS_PIPE], 9) == b""
    os.close(pipe.reader)


def test_layers_that_are_not_encrypted_go_straight_to_the_pipe(
    opened: Make, tmp_path: Path
) -> None:
    answers: list[Any] = []
    registry = FakeChild(asking(FOUND, answers, "pulled"))
    (pipe,) = open_pipes(1)

    pipes = SimpleNamespace(blobs_in=Descriptor(pipe.writer))
    image = pulling(opened({}), tmp_path, registry=registry, pipes=pipes)
    assert run(image.fetch(UNUSED, UNUSED, begin(first=0, to_file=False))) == "pulled"
    assert (answers[0].value, answers[0].fds) == (SendLayers(first=0), (pipe.writer,))
    with pytest.raises(RuntimeError):  # whoever sends the answer closes it
        pipes.blobs_in.take()
    pipe.close()


@pytest.mark.parametrize("form", LayerForm)
def test_index_is_made_by_the_child_that_was_started_when_the_last_tar_was_there(
    opened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: LayerForm
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    answers: list[Any] = []
    unpack = FakeChild(asking(NewTar(position=1), answers, UnpackReply()))
    children = opened({Role.INDEX: job(IndexReply()), Role.TREE: job(None)})
    tars: Any = SimpleNamespace(open_to_append=lambda position: (position,))

    async def pull() -> None:
        async with pulling(children, tmp_path, form=form, unpack=unpack) as image:
            with pytest.raises(RuntimeError):
                await image.index(IndexRequest(runs=()))
            assert await image.unpack(UNUSED, tars) == UnpackReply()
            assert (answers[0].value, answers[0].fds) == (OpenedTar(), (1,))
            if form is LayerForm.INDEX:
                await image.index(IndexRequest(runs=()))

    run(pull())
    started = [(Role.INDEX, str(tmp_path)), (Role.TREE, str(tmp_path))]
    assert children.started == (started if form is LayerForm.INDEX else [])


@pytest.mark.parametrize("processors", [1, LISTING_PARTS, LISTING_PARTS + 1])
def test_every_part_of_the_tree_is_walked_by_somebody(
    opened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    requests: list[TreeRequest] = []

    async def walk(request: TreeRequest, _answers: object) -> TreeDigests:
        requests.append(request)
        digests = tuple(Digest(f"{part:064x}") for part in request.parts)
        return TreeDigests(listings=(digests,))

    children = opened({Role.TREE: walk})
    walked = run(pulling(children, tmp_path).walk(("/layer",), LayerForm.COMPRESSED))
    walkers = min(processors, LISTING_PARTS)
    assert children.started == [(Role.TREE, str(tmp_path))] * walkers
    assert requests == [
        TreeRequest(roots=("/layer",), parts=parts, form=LayerForm.COMPRESSED)
        for parts in share_parts(walkers)
    ]
    every = tuple(Digest(f"{part:064x}") for part in range(LISTING_PARTS))
    assert walked == TreeDigests(listings=(every,))


def test_files_belong_to_the_children_that_read_them(opened: Make, tmp_path: Path) -> None:
    owners = pulling(opened({}), tmp_path).owners
    assert owners.index == RIGHTS[Role.INDEX].uid
    assert owners.compress == RIGHTS[Role.COMPRESS].uid
