"""A launch that its owner judged: the tree of secrets that Linux would show."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from tests.unit.ccinit.formats.signature.image_policy_cases import KEY, policy

STATEMENT = "ca2fa1f2-1c46-4003-9bac-6f2c80542909"
DATE = 1_790_000_000
PSK = b"log-psk of this launch, 32 bytes"
POD = "kbs:///ccinit/demo/"
POLICY_KEY = "kbs:///ccinit/demo/file-cosign"
POLICY = policy({"type": "sigstoreSigned", "keyPath": POLICY_KEY})

# What the pod of tests/unit/ccinit/formats/pod/test_manifest.py asks for.
RESOURCES: dict[str, tuple[EnvelopeKind, bytes]] = {
    f"{POD}log-psk": (EnvelopeKind.LOG_PSK, PSK),
    f"{POD}volume-key-data": (EnvelopeKind.VOLUME_KEY, bytes(range(192, 256))),
    f"{POD}file-auth": (EnvelopeKind.FILE, b'{"auths":{}}'),
    f"{POD}file-policy": (EnvelopeKind.FILE, POLICY),
    f"{POD}image-key": (EnvelopeKind.IMAGE_KEY, b"k" * 32),
    f"{POD}file-token": (EnvelopeKind.FILE, b"token"),
    POLICY_KEY: (EnvelopeKind.FILE, KEY),
}


def enveloped(uri: str, kind: EnvelopeKind, data: bytes, *, create: bool = False) -> bytes:
    parsed = parse_resource_uri(uri)
    return encode_envelope(Envelope(uri=parsed, kind=kind, data=data, create=create))


def guid_of(uri: str) -> str:
    digits = hashlib.md5(uri.encode(), usedforsecurity=False).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass(kw_only=True)
class Launch:
    """What the owner put in; a test may change it before it is written."""

    document: bytes = b"document"
    entries: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        said = {"v": 1, "initdata": str(sha256_digest(self.document)), "date": DATE}
        self.entries = {STATEMENT: json.dumps(said).encode()} | {
            guid_of(uri): enveloped(uri, kind, data) for uri, (kind, data) in RESOURCES.items()
        }

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True)
        for name, data in self.entries.items():
            (directory / name).write_bytes(data)
        return directory
