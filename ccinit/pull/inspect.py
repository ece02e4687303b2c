"""The job of the `inspect` child: which layers are encrypted, and what can open them.

It comes between the `registry` child and the KBS: whatever names a key to be fetched is read from
documents that are hashed here, without a network. An image without encrypted layers needs none of
this.
"""

from ccinit.pull.documents import verify_documents, verify_encryption
from ccinit.pull.messages import EncryptedLayer, InspectedImage, InspectRequest


def inspect_job(request: InspectRequest, channel: object) -> InspectedImage:  # noqa: ARG001
    """Verify the documents and list the encrypted layers.

    Raises:
        VerificationError: `pull.…`, a digest does not fit; `pull.encryption`.
        FormatError: `manifest.…`, `enc.…`.
    """
    manifest = verify_encryption(
        verify_documents(request.documents, request.pinned), request.encryption
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
        layers=tuple(layer.compression for layer in manifest.layers), encrypted=encrypted
    )
