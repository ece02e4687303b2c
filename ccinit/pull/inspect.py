"""The job of the `inspect` child: what an image consists of, before any layer is fetched.

It comes between the `registry` child and whatever is decided by an image's documents: which layers
are there already, which are encrypted and what can open them. So they are hashed here, without a
network, and their grammar is not PID 1's.
"""

from ccinit.pull.documents import verify_image
from ccinit.pull.messages.layers import EncryptedLayer, InspectedImage, InspectRequest


def inspect_job(request: InspectRequest, _channel: object) -> InspectedImage:
    """Verify the documents and list the layers.

    Raises:
        VerificationError: `pull.…`, a digest does not fit; `pull.encryption`.
        FormatError: `manifest.…`, `image_config.…`, `enc.…`.
    """
    manifest, config = verify_image(
        request.documents, request.config, request.pinned, request.encryption
    )
    encrypted = tuple(
        EncryptedLayer(
            position=position,
            compression=layer.compression,
            hmac=layer.encryption.hmac,
            nonce=layer.encryption.nonce,
            wraps=layer.encryption.wraps,
        )
        for position, layer in enumerate(manifest.layers)
        if layer.encryption is not None
    )
    return InspectedImage(
        layers=tuple(layer.compression for layer in manifest.layers),
        diff_ids=config.diff_ids,
        encrypted=encrypted,
    )
