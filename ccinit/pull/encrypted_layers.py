"""The encrypted layers of an image: what PID 1 does between the children that open them.

    documents ──inspect──▶ InspectedImage   which layers, which wraps; verified, without a network
              ──(keys)───▶ LayerKey each    KBS and `unwrap` children, `agent`'s composition
    ciphertext ──decrypt─▶ tar              HMAC first; layer keys of this image and nothing else

No child that has a key has a network, and the one that speaks with the registry has no key.
"""

from typing import Protocol

from ccinit.errors import FormatError
from ccinit.formats.layer_encryption import LayerKey, join_keys
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.pull.messages import (
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    InspectRequest,
    PulledBlobs,
    PullRequest,
    layer_file,
)
from ccinit.secret import Secret


class DecryptChildren(Protocol):
    """The children that only an encrypted image needs."""

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        """Run `inspect.inspect_job`."""

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        """Get the keys of the image's encrypted layers, in their order, or raise.

        Keys of the KBS open their wraps, each in a run of `unwrap.unwrap_job` of its own.
        """

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        """Run `decrypt.decrypt_job` with `keys` in its pipe."""


async def decrypt_layers(
    request: PullRequest, blobs: PulledBlobs, children: DecryptChildren
) -> None:
    """Make tars of the encrypted layers of `blobs`, whose files the `decrypt` child owns.

    Raises:
        CcinitError: of any family.
    """
    inspected = await children.inspect(
        InspectRequest(
            pinned=parse_image_reference(request.reference).digest,
            documents=blobs.documents,
            encryption=request.encryption,
        )
    )
    encrypted = {layer.position for layer in inspected.encrypted}
    expected = tuple(
        layer_file(position, is_encrypted=position in encrypted)
        for position in range(inspected.layers)
    )
    if blobs.files != expected:
        raise FormatError("pull.layers", "the files are not those of the manifest's layers")
    decryption = DecryptRequest(
        layers=inspected.encrypted,
        tars=tuple(
            layer_file(position)
            for position in range(inspected.layers)
            if position not in encrypted
        ),
        tar_bytes=request.limits.tar_bytes,
    )
    with Secret(join_keys(await children.open_keys(inspected))) as keys:
        await children.decrypt(decryption, keys)
