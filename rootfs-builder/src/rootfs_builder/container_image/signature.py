"""Sign an image as cosign does in its classic form, and demand that in containers-policy.json.

The payload is "simple signing" JSON: the manifest's digest and the repository it belongs to. It is
the one layer of an image of its own, tagged `sha256-HEX.sig`, with the signature (ECDSA on P-256,
SHA-256) in an annotation. A tag is no part of the identity: a pod names images by digest.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import ConfigError
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped
from measured_boot.command_line.private_keys import elliptic_curve_key
from rootfs_builder.container_image.oci_layout import (
    CONFIG_TYPE,
    Blob,
    ContainerImage,
    encode_json,
    write_image,
)

PAYLOAD_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"


def load_signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the file of a private key on P-256, PEM without a password.

    Raises:
        ConfigError: `sign.key`.
    """
    key = elliptic_curve_key(read_capped(path, MAX_KEY_BYTES), path, "sign.key")
    if not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("sign.key", f"{path}: the key is not on P-256")
    return key


def sign_image(
    digest: str, repository: str, key: ec.EllipticCurvePrivateKey, layout: Path
) -> ContainerImage:
    """Write `layout` with the signature of the manifest `digest` in `host[:port]/repository`."""
    payload = encode_json(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": {},
        }
    )
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    layer = Blob(
        media_type=PAYLOAD_TYPE, data=payload, annotations={SIGNATURE_ANNOTATION: signature}
    )
    config = {
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.descriptor()["digest"]]},
    }
    return write_image(Blob(media_type=CONFIG_TYPE, data=encode_json(config)), [layer], layout)


def signature_tag(digest: str) -> str:
    """Return the tag under which readers look for the signatures of a manifest."""
    return f"{digest.replace(':', '-')}.sig"


def signature_policy(repository: str, key: ec.EllipticCurvePublicKey) -> Mapping[str, object]:
    """Return a containers-policy.json that accepts only signed images of this repository."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    requirement = {
        "type": "sigstoreSigned",
        "keyData": base64.b64encode(pem).decode(),
        "signedIdentity": {"type": "matchRepository"},
    }
    return {"default": [{"type": "reject"}], "transports": {"docker": {repository: [requirement]}}}
