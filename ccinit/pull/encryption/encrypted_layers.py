"""The encrypted layers of an image: what PID 1 does between the children that open them.

    documents ──inspect──▶ InspectedImage   which layers, which wraps; verified, without a network
              ──(keys)───▶ LayerKey each    KBS and `unwrap` children, `agent`'s composition
    ciphertext ──decrypt─▶ layers           HMAC first; layer keys of this image and nothing else

Keys are unwrapped while the layers are downloaded. No child with a key has a network, and the child
that speaks to the registry has no key.
"""

from typing import Protocol

from ccinit.formats.oci.layer_encryption import LayerKey, join_keys
from ccinit.pull.messages.layers import DecryptReply, DecryptRequest, InspectedImage
from ccinit.secret import Secret


class DecryptChildren(Protocol):
    """The children that only an encrypted image needs."""

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        """Return the keys of the image's encrypted layers, in their order, or raise.

        The KBS's keys unwrap them, each in a run of `unwrap.unwrap_job` of its own.
        """

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        """Run `decrypt.decrypt_job` on what was downloaded, with `keys` in its pipe."""


async def decrypt_layers(
    image: InspectedImage, keys: tuple[LayerKey, ...], children: DecryptChildren
) -> None:
    """Pass the layers, which were downloaded into a file, on to be decompressed.

    Args:
        image: what is encrypted, and how.
        keys: what `open_keys` returned.
        children: who does it.

    Raises:
        CcinitError: of any family.
    """
    request = DecryptRequest(layers=len(image.layers), encrypted=image.encrypted)
    with Secret(join_keys(keys)) as secret:
        await children.decrypt(request, secret)
