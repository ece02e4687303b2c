"""The children that receive an image (see `ccinit.pull.reception`), waiting for their jobs.

They load their code and give up their rights while something else is waited for. All but one know
nothing of the image; the one for the registry gets its credentials when it is started.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

from ccinit.agent.processes.children import Children, PreparedChild
from ccinit.agent.processes.roles import Role
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.pod.manifest import Image
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
        fds: ends of pipes that are still to be passed on: `blobs`, and `words` if there is no child
            yet to read them. Who takes one closes it.
    """

    registry: PreparedChild
    inspect: PreparedChild
    unpack: PreparedChild
    layers: PreparedChild | None
    fds: dict[str, int]


@asynccontextmanager
async def prepare_reception(
    children: Children, image: Image, secrets: Mapping[str, Secret]
) -> AsyncIterator[ReceptionChildren]:
    """Start them; yields them, and ends with the block whatever is left of children and pipes.

    Args:
        children: who starts them.
        image: the one that they are for.
        secrets: for the registry.

    Raises:
        LimitExceededError: `child.secret`.
        KernelError: one could not be started.
    """
    fds: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        stack.callback(_close_all, fds)
        with ExitStack() as passed_on:
            blobs_out, fds["blobs"] = open_pipe()
            passed_on.callback(os.close, blobs_out)
            fds["words"], words_in = open_word_pipe()
            passed_on.callback(os.close, words_in)

            async def prepare(role: Role, **given: int) -> PreparedChild:
                of_registry = secrets if role is Role.REGISTRY else {}
                child = children.prepare(role, fds=given, secrets=of_registry)
                return await stack.enter_async_context(child)

            registry = await prepare(Role.REGISTRY)
            inspect = await prepare(Role.INSPECT)
            unpack = await prepare(Role.UNPACK, **{SOURCE: blobs_out, SINK: words_in})
            layers = None
            if not (image.keys or image.encryption is ImageEncryption.REQUIRED):
                layers = await prepare(Role.LAYERS, **{SOURCE: fds["words"]})
                os.close(fds.pop("words"))
        yield ReceptionChildren(
            registry=registry, inspect=inspect, unpack=unpack, layers=layers, fds=fds
        )


def _close_all(fds: dict[str, int]) -> None:
    while fds:
        os.close(fds.popitem()[1])
