"""The job of the `inspect` child: what an image consists of, before any layer is fetched.

Decisions depend on an image's documents: which layers are already there, which are encrypted, and
what can open them. So this child, which has no network, hashes and parses them after the `registry`
child, and PID 1 need not.
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
