"""Write the bill of materials of built images: every Debian package and wheel, in SPDX.

The packages are the whole set from which the build took files or ran tools; which of their files
are in an image follows from `rootfs-builder/mkosi` and the import closure. The bytes depend only on
the inputs: the date is the lock's, the name a digest.

Specification: SPDX 2.3, clauses 6 (document), 7 (package) and 11 (relationships); package URLs by
purl-spec.
"""

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from rootfs_builder.packages.lock import LockedPackage
from rootfs_builder.packages.wheels import Requirement

_NAMESPACE: Final = uuid.UUID("7b0f5a52-9c1e-5d0b-8f5e-2f1f6f0c9a11")
_IMAGE: Final = "SPDXRef-image"
_NO_IDENTITY: Final = re.compile("[^A-Za-z0-9.-]")
_UNQUOTED: Final = ":"
"""Beside letters, digits and `.-_~`; purl-spec, "Character encoding": never percent-encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """What images were made of.

    Attributes:
        packages: of Debian, with the digest of each file where the lock has it.
        wheels: with the digests that the requirement file has.
        date: of the package lock.
        inputs: digest of everything that decided the result, for each profile.
    """

    packages: tuple[LockedPackage, ...]
    wheels: tuple[Requirement, ...]
    date: datetime
    inputs: Mapping[str, str]


def encode_sbom(materials: Materials) -> bytes:
    """Return the document as JSON."""
    rows = [*map(_describe_deb, materials.packages), *map(_describe_wheel, materials.wheels)]
    # Not only the inputs: an ordinary build may have got other packages than the locked ones.
    content = json.dumps([dict(materials.inputs), rows], sort_keys=True)
    document: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "ccinit guest image",
        "documentNamespace": uuid.uuid5(_NAMESPACE, content).urn,
        "creationInfo": {
            "created": materials.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: rootfs-builder"],
        },
        "packages": [_describe_image(), *rows],
        "relationships": _describe_relationships(row["SPDXID"] for row in rows),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def deb_url(package: LockedPackage) -> str:
    """Return the package URL of a Debian package."""
    return f"pkg:deb/debian/{quote(package.name)}@{quote(package.version, safe=_UNQUOTED)}"


def wheel_url(wheel: Requirement) -> str:
    """Return the package URL of a Python package."""
    name = wheel.name.lower().replace("_", "-")
    return f"pkg:pypi/{name}@{quote(wheel.version, safe=_UNQUOTED)}"


def _describe_image() -> dict[str, Any]:
    return {
        "SPDXID": _IMAGE,
        "name": "ccinit-guest",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseDeclared": "Apache-2.0",
    }


def _describe_deb(package: LockedPackage) -> dict[str, Any]:
    digests = (package.sha256,) if package.sha256 else ()
    return _describe("deb", package.name, package.version, digests, deb_url(package))


def _describe_wheel(wheel: Requirement) -> dict[str, Any]:
    return _describe("pypi", wheel.name, wheel.version, wheel.sha256, wheel_url(wheel))


def _describe(
    kind: str, name: str, version: str, digests: Iterable[str], url: str
) -> dict[str, Any]:
    # With the version: images built from two locks may have two packages of one name.
    identity = _NO_IDENTITY.sub(lambda match: f".{ord(match[0]):x}.", f"{name}@{version}")
    return {
        "SPDXID": f"SPDXRef-{kind}-{identity}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [
            {"algorithm": "SHA256", "checksumValue": digest} for digest in sorted(digests)
        ],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": url,
            }
        ],
    }


def _describe_relationships(identities: Iterable[str]) -> list[dict[str, str]]:
    described = ("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)
    rows = (described, *((_IMAGE, "GENERATED_FROM", identity) for identity in identities))
    return [
        {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
        for one, kind, other in rows
    ]
