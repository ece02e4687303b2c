"""The children that receive an image (see `ccinit.pull.reception`), waiting for their jobs.

They load their code and give up their rights while the guest waits for something else, and know
nothing of the image. The registry's child gets its credentials together with its job: their pipes
are empty until then.

Those that read an image's layers do not wait if keys have to open it first: they would take memory
beside the children that download and unwrap, and have time to load their code while the first
layer's HMAC is checked.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing

from ccinit.agent.processes.children import Children, PreparedChild
from ccinit.agent.processes.roles import Role
from ccinit.agent.processes.secret_pipes import fill_pipe
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.pipes import open_pipes
from ccinit.pull.layers.growing_tar import open_word_pipe
from ccinit.pull.layers.stream import SINK, SOURCE, open_pipe
from ccinit.secret import Secret
from ccinit.values import frozen


@frozen
class LayerPipes:
    """The ends of the pipes between the children; each is closed once its child has it.

    Attributes:
        blobs_in: takes the layers, from the registry's child, or from `decrypt` if they are
            encrypted.
        blobs_out: what `unpack` reads.
        words_in: takes what `unpack` says of its tars.
        words_out: what `layers` reads.
    """

    blobs_in: Descriptor
    blobs_out: Descriptor
    words_in: Descriptor
    words_out: Descriptor

    @property
    def of_unpack(self) -> Mapping[str, Descriptor]:
        """The ends that `unpack` gets, by the names that it knows."""
        return {SOURCE: self.blobs_out, SINK: self.words_in}

    @property
    def of_layers(self) -> Mapping[str, Descriptor]:
        """The end that `layers` gets."""
        return {SOURCE: self.words_out}


@frozen
class ReceptionChildren:
    """One child for each job, with the pipes between them in place.

    Attributes:
        unpack, layers: None for an image with encrypted layers, to be started when they come.
        credentials: write ends of pipes to the registry's child, by their names.
    """

    registry: PreparedChild
    inspect: PreparedChild
    unpack: PreparedChild | None
    layers: PreparedChild | None
    pipes: LayerPipes
    credentials: Mapping[str, Descriptor]

    def give(self, secrets: Mapping[str, Secret]) -> None:
        """Hand the registry's child all its credentials.

        Raises:
            LimitExceededError: `child.secret`.
            KernelError: `kernel.write`.
        """
        for name, secret in secrets.items():
            fill_pipe(self.credentials[name].take(), secret)


@asynccontextmanager
async def prepare_reception(
    children: Children, image: Image, credentials: Collection[str]
) -> AsyncIterator[ReceptionChildren]:
    """Start the children and yield them; ends with the block what is left of children and pipes.

    Args:
        children: starts them.
        image: the one that they are for.
        credentials: names of the pipes by which the registry's child will get its credentials.

    Raises:
        KernelError: one could not be started.
    """
    async with AsyncExitStack() as stack:

        def own(*fds: int) -> tuple[Descriptor, ...]:
            return tuple(stack.enter_context(closing(Descriptor(fd))) for fd in fds)

        blobs_out, blobs_in = own(*open_pipe())
        words_out, words_in = own(*open_word_pipe())
        pipes = LayerPipes(
            blobs_in=blobs_in, blobs_out=blobs_out, words_in=words_in, words_out=words_out
        )
        readers: dict[str, Descriptor] = {}
        writers: dict[str, Descriptor] = {}
        for name, pipe in zip(credentials, open_pipes(len(credentials)), strict=True):
            readers[name], writers[name] = own(pipe.reader, pipe.writer)
        registry = await prepare_with(stack, children, Role.REGISTRY, readers)
        inspect = await prepare_with(stack, children, Role.INSPECT, {})
        unpack = layers = None
        if not (image.keys or image.encryption is ImageEncryption.REQUIRED):
            unpack = await prepare_with(stack, children, Role.UNPACK, pipes.of_unpack)
            layers = await prepare_with(stack, children, Role.LAYERS, pipes.of_layers)
        yield ReceptionChildren(
            registry=registry,
            inspect=inspect,
            unpack=unpack,
            layers=layers,
            pipes=pipes,
            credentials=writers,
        )


async def prepare_with(
    stack: AsyncExitStack, children: Children, role: Role, ends: Mapping[str, Descriptor]
) -> PreparedChild:
    """Start a child that ends with `stack`, and close what it has copies of: nobody else has them.

    So whoever is at the other end of a pipe notices when the child ends.

    Raises:
        KernelError: it could not be started.
    """
    with ExitStack() as passed_on:
        fds = {name: passed_on.enter_context(end) for name, end in ends.items()}
        return await stack.enter_async_context(children.prepare(role, fds=fds))
