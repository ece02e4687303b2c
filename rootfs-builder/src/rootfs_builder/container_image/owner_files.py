"""What the owner needs besides the image itself: keys, policy, and a piece of `pod.toml`.

    DIRECTORY/keys/REPOSITORY/TYPE/TAG     content of a resource, 32 bytes, mode 0600
    DIRECTORY/keys.lock                    empty; held by whoever makes a key
    DIRECTORY/policy.json                  who has to have signed the image
    DIRECTORY/image.toml                   the `[[image]]` table for pod.toml

A key is made once: an existing file is used again, so that a rebuilt image needs no new resource.
`register_keys` gives the keys to a KBS, bare or in the envelope that names their use.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccinit.errors import ConfigError
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import KEY_BYTES, ImageEncryption
from measured_boot.command_line.files import read_text_capped, write_whole
from rootfs_builder.container_image.kbs_admin import KbsAdmin
from rootfs_builder.container_image.layer_encryption import KbsRecipient
from rootfs_builder.key_file import make_key_once
from rootfs_builder.progress import Progress

_KEYS = "keys"
_LOCK = "keys.lock"


def open_key(directory: Path, uri: ResourceUri) -> KbsRecipient:
    """Return the key of `uri`, made if there is none.

    Raises:
        ConfigError: `encrypt.key`, the file has another length.
    """
    path = directory / _KEYS / uri.path
    progress = Progress(name="container-image")
    make_key_once(path, directory / _LOCK, progress, lambda: secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError("encrypt.key", f"{path}: expected {KEY_BYTES} bytes, found {len(key)}")
    return KbsRecipient(uri=uri, key=key)


def register_keys(admin: KbsAdmin, keys: Sequence[KbsRecipient], *, envelope: bool) -> None:
    """Give the keys to a KBS.

    Raises:
        PeerError: `kbs.…`; the keys before the refused one are stored.
    """
    for key in keys:
        body = key.key
        if envelope:
            body = encode_envelope(Envelope(uri=key.uri, kind=EnvelopeKind.IMAGE_KEY, data=key.key))
        admin.register(key.uri, body)


def write_policy(directory: Path, policy: Mapping[str, object]) -> None:
    """Write the policy."""
    _write(directory / "policy.json", json.dumps(policy, indent=2) + "\n")


def write_snippet(
    directory: Path, name: str, reference: str, keys: Sequence[ResourceUri], *, ca: Path | None
) -> None:
    """Write an `[[image]]` table that demands encryption.

    Args:
        directory: where.
        name: the image's name in the pod.
        reference: `host[:port]/repository@sha256:…`.
        keys: resources with private keys, which the layers do not name.
        ca: PEM file of the registry's authority; None leaves the key out.
    """
    lines = ["[[image]]", f"name = {json.dumps(name)}", f"reference = {json.dumps(reference)}"]
    lines.append(f'encryption = "{ImageEncryption.REQUIRED.value}"')
    if keys:
        lines.append(f"keys = {json.dumps([str(uri) for uri in keys])}")
    if ca is not None:
        lines.append(f"ca = '''\n{read_text_capped(ca).strip()}\n'''")
    _write(directory / "image.toml", "\n".join((*lines, "")))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
