"""The files of a state directory that evidence is compared with, joined as `References`.

`guest_owner.kbs.references` defines their content, `store` writes them. Each request reads them (a
thousand guests make several thousand requests), so unchanged files are parsed only once
(`registrations.Folder`).
"""

from pathlib import Path
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES
from guest_owner.kbs.attestation_requests.key import read_request_key
from guest_owner.kbs.references.requirements import MAX_REQUIREMENTS_BYTES, parse_requirements
from guest_owner.kbs.references.roots import (
    MAX_ROOT_BYTES,
    VENDOR_PLATFORMS,
    parse_certificates,
    parse_platform,
)
from guest_owner.kbs.references.values import (
    MAX_REFERENCE_BYTES,
    References,
    RegisteredKey,
    RegisteredRoot,
    parse_reference_set,
    register_initdata,
)
from guest_owner.kbs.state.registrations import Folder

MAX_KEY_BYTES = 4096
DOCUMENTS: Final = "initdata"
"""Folder of the state that has the registered initdata documents, `document_file` each."""
_REFERENCES, _KEYS = "references", "attestation-keys"
_MAX_BYTES: Final = {
    _REFERENCES: MAX_REFERENCE_BYTES,
    _KEYS: MAX_KEY_BYTES,
    DOCUMENTS: MAX_DOCUMENT_BYTES,
}


class ReferenceFiles:
    """The registration files of one state directory."""

    def __init__(self, root: Path) -> None:
        """Args: root: the state directory."""
        self._root = root
        self._sets = Folder(
            root / _REFERENCES,
            ".json",
            _MAX_BYTES[_REFERENCES],
            lambda name, data: parse_reference_set(data, name=name),
        )
        self._keys = Folder(
            root / _KEYS,
            ".der",
            _MAX_BYTES[_KEYS],
            lambda name, data: RegisteredKey(name=name, public_der=data),
        )
        self._documents = Folder(
            root / DOCUMENTS, ".toml", _MAX_BYTES[DOCUMENTS], register_initdata
        )
        self._requirements = Folder(
            root / "requirements",
            ".toml",
            MAX_REQUIREMENTS_BYTES,
            lambda name, data: (
                parse_requirements(data, parse_platform(name)),
                sha256_digest(data),
            ),
        )
        self._roots = {platform: _roots_of(root, platform) for platform in VENDOR_PLATFORMS}

    def read(self) -> References:
        """Return all registrations; one file that does not parse makes the whole read fail."""
        requirements = self._requirements.read()
        return References(
            sets=self._sets.read(),
            attestation_keys=self._keys.read(),
            roots=tuple(root for platform in self._roots for root in self.read_roots(platform)),
            requirements=tuple(parsed for parsed, _ in requirements),
            demands={parsed.tee: digest for parsed, digest in requirements},
            initdata=self._documents.read(),
            request_key=read_request_key(self._root),
        )

    def read_roots(self, platform: Tee) -> tuple[RegisteredRoot, ...]:
        """Return the certificates of one of `VENDOR_PLATFORMS`."""
        return self._roots[platform].read()


def reference_file(name: str) -> str:
    """Return the path of an image's reference values below the state directory."""
    return f"{_REFERENCES}/{name}.json"


def key_file(name: str) -> str:
    """Return the path of an attestation key below the state directory."""
    return f"{_KEYS}/{name}.der"


def document_file(name: str) -> str:
    """Return the path of an initdata document below the state directory."""
    return f"{DOCUMENTS}/{name}.toml"


def check_size(file: str, data: bytes) -> None:
    """Refuse a file that could not be read back: no request would be answered any more.

    Args:
        file: `references/…`, `attestation-keys/…` or `initdata/…`.
        data: what it would hold.

    Raises:
        FormatError: `register.size`.
    """
    max_bytes = _MAX_BYTES[file.partition("/")[0]]
    if len(data) > max_bytes:
        detail = f"{file} would have {len(data)} bytes, expected at most {max_bytes}"
        raise FormatError("register.size", detail)


def _roots_of(root: Path, platform: Tee) -> Folder[RegisteredRoot]:
    return Folder(
        root / f"roots/{platform}",
        ".pem",
        MAX_ROOT_BYTES,
        lambda name, data: RegisteredRoot(
            name=name, platform=platform, certificates=parse_certificates(data)
        ),
    )
