"""The children that receive an image (see `ccinit.pull.reception`), waiting for their jobs.

They load their code and give up their rights while the guest waits for something else, and know
nothing of the image. The registry's child gets its credentials together with its job: their pipes
are empty until then.
"""

import os
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
class ReceptionChildren:
    """One child for each job, with the pipes between them in place.

    Attributes:
        layers: None for an image with encrypted layers: it would only take memory while other
            children decrypt them.
        blobs: takes the layers, from the registry's child, or from `decrypt` if they are encrypted.
        words: what `layers` reads; closed if it has that already.
        credentials: write ends of pipes to the registry's child, by their names.
    """

    registry: PreparedChild
    inspect: PreparedChild
    unpack: PreparedChild
    layers: PreparedChild | None
    blobs: Descriptor
    words: Descriptor
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
        with ExitStack() as passed_on:  # each child has copies of its own
            blobs_out, blobs_in = open_pipe()
            passed_on.callback(os.close, blobs_out)
            blobs = stack.enter_context(closing(Descriptor(blobs_in)))
            words_out, words_in = open_word_pipe()
            passed_on.callback(os.close, words_in)
            words = stack.enter_context(closing(Descriptor(words_out)))
            pipes = dict(zip(credentials, open_pipes(len(credentials)), strict=True))
            given: dict[str, Descriptor] = {}
            for name, pipe in pipes.items():
                passed_on.callback(os.close, pipe.reader)
                given[name] = stack.enter_context(closing(Descriptor(pipe.writer)))

            async def prepare(role: Role, fds: Mapping[str, int]) -> PreparedChild:
                return await stack.enter_async_context(children.prepare(role, fds=fds))

            registry = await prepare(
                Role.REGISTRY, {name: pipe.reader for name, pipe in pipes.items()}
            )
            inspect = await prepare(Role.INSPECT, {})
            unpack = await prepare(Role.UNPACK, {SOURCE: blobs_out, SINK: words_in})
            layers = None
            if not (image.keys or image.encryption is ImageEncryption.REQUIRED):
                with words as reader:
                    layers = await prepare(Role.LAYERS, {SOURCE: reader})
        yield ReceptionChildren(
            registry=registry,
            inspect=inspect,
            unpack=unpack,
            layers=layers,
            blobs=blobs,
            words=words,
            credentials=given,
        )
