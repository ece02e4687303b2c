"""The children that receive an image (see `ccinit.pull.reception`), waiting for their jobs.

They load their code and give up their rights while something else is waited for, and know nothing
of the image. The credentials of the one for the registry come when its job does: their pipes are
empty until then.
"""

import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

from ccinit.agent.processes.children import Children, PreparedChild
from ccinit.agent.processes.roles import Role
from ccinit.agent.processes.secret_pipes import fill_pipe
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.pipes import open_pipes
from ccinit.pull.layers.growing_tar import open_word_pipe
from ccinit.pull.layers.stream import SINK, SOURCE, open_pipe
from ccinit.secret import Secret
from ccinit.values import frozen


@frozen
class ReceptionChildren:
    """One for each job, with the pipes between them in place.

    Attributes:
        layers: None for an image that keys are expected to open: it would wait beside the children
            that do that, for nothing but memory.
        fds: what is still to be passed on: the ends `blobs` of a pipe, and `words` of another if
            there is no child yet to read them; and `file`, where encrypted layers are downloaded.
            Who takes one closes it.
        credentials: ends of pipes to the registry's child, by their names.
    """

    registry: PreparedChild
    inspect: PreparedChild
    unpack: PreparedChild
    layers: PreparedChild | None
    fds: dict[str, int]
    credentials: dict[str, int]

    def give(self, secrets: Mapping[str, Secret]) -> None:
        """Hand the registry's child all its credentials.

        Raises:
            LimitExceededError: `child.secret`.
            KernelError: `kernel.write`.
        """
        for name, secret in secrets.items():
            fill_pipe(self.credentials.pop(name), secret)


@asynccontextmanager
async def prepare_reception(
    children: Children, image: Image, credentials: Collection[str]
) -> AsyncIterator[ReceptionChildren]:
    """Start them; yields them, and ends with the block whatever is left of children and pipes.

    Args:
        children: who starts them.
        image: the one that they are for.
        credentials: names of what the registry's child will be given.

    Raises:
        KernelError: one could not be started.
    """
    fds: dict[str, int] = {}
    given: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        stack.callback(_close_all, fds)
        stack.callback(_close_all, given)
        with ExitStack() as passed_on:
            blobs_out, fds["blobs"] = open_pipe()
            passed_on.callback(os.close, blobs_out)
            fds["words"], words_in = open_word_pipe()
            passed_on.callback(os.close, words_in)
            secret = dict(zip(credentials, open_pipes(len(credentials)), strict=True))
            for name, pipe in secret.items():
                passed_on.callback(os.close, pipe.reader)
                given[name] = pipe.writer

            async def prepare(role: Role, passed: Mapping[str, int]) -> PreparedChild:
                return await stack.enter_async_context(children.prepare(role, fds=passed))

            registry = await prepare(
                Role.REGISTRY, {name: pipe.reader for name, pipe in secret.items()}
            )
            inspect = await prepare(Role.INSPECT, {})
            unpack = await prepare(Role.UNPACK, {SOURCE: blobs_out, SINK: words_in})
            layers = None
            if not (image.keys or image.encryption is ImageEncryption.REQUIRED):
                layers = await prepare(Role.LAYERS, {SOURCE: fds["words"]})
                os.close(fds.pop("words"))
        yield ReceptionChildren(
            registry=registry,
            inspect=inspect,
            unpack=unpack,
            layers=layers,
            fds=fds,
            credentials=given,
        )


def _close_all(fds: dict[str, int]) -> None:
    while fds:
        os.close(fds.popitem()[1])
