"""State what published files were made of and by whom, for `measured_boot.published.dsse` to sign.

It contains nothing about the building machine (no path, name or time), so that a second builder
states the same and differs only by key.

Specification: in-toto Statement 1; SLSA Provenance 1.0 (buildDefinition, runDetails).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from rootfs_builder.publication.sbom import Materials, deb_url, wheel_url

BUILD_TYPE: Final = "urn:ccinit:build:rootfs-builder-image:1"
BUILDER_PREFIX: Final = "urn:ccinit:builder:ed25519:sha256:"


def encode_statement(subjects: Mapping[str, str], materials: Materials, builder: str) -> bytes:
    """Return the statement as JSON.

    Args:
        subjects: SHA-256 of each published file, hex, by its name.
        materials: what they were made of.
        builder: name of the builder's key (`measured_boot.published.dsse.key_id`).
    """
    statement: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(subjects.items())
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"profiles": sorted(materials.inputs)},
                "internalParameters": {"inputs": dict(sorted(materials.inputs.items()))},
                "resolvedDependencies": _list_dependencies(materials),
            },
            "runDetails": {"builder": {"id": f"{BUILDER_PREFIX}{builder}"}},
        },
    }
    return json.dumps(statement, separators=(",", ":")).encode()


def _list_dependencies(materials: Materials) -> list[dict[str, Any]]:
    debs = [(deb_url(package), package.sha256) for package in materials.packages]
    wheels = [
        (wheel_url(wheel), digest)
        for wheel in materials.wheels
        for digest in sorted(wheel.sha256) or ("",)
    ]
    return [
        {"uri": url, "digest": {"sha256": digest}} if digest else {"uri": url}
        for url, digest in (*debs, *wheels)
    ]
