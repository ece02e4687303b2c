import json
from dataclasses import replace
from datetime import UTC, datetime

from rootfs_builder.packages.lock import LockedPackage
from rootfs_builder.packages.wheels import Requirement
from rootfs_builder.publication.provenance import BUILD_TYPE, BUILDER_PREFIX, encode_statement
from rootfs_builder.publication.sbom import Materials

MATERIALS = Materials(
    packages=(LockedPackage(name="bash", version="5.2", sha256="1" * 64),),
    wheels=(),
    date=datetime(2026, 1, 2, tzinfo=UTC),
    inputs={"test": "ef", "prod": "ab"},
)


def test_encode_statement_has_the_form_of_slsa() -> None:
    value = json.loads(encode_statement({"b": "2", "a": "1"}, MATERIALS, "key"))
    assert value == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "a", "digest": {"sha256": "1"}},
            {"name": "b", "digest": {"sha256": "2"}},
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"profiles": ["prod", "test"]},
                "internalParameters": {"inputs": {"prod": "ab", "test": "ef"}},
                "resolvedDependencies": [
                    {"uri": "pkg:deb/debian/bash@5.2", "digest": {"sha256": "1" * 64}}
                ],
            },
            "runDetails": {"builder": {"id": f"{BUILDER_PREFIX}key"}},
        },
    }


def test_encode_statement_is_the_same_for_the_same_inputs() -> None:
    one = encode_statement({"a": "1", "b": "2"}, MATERIALS, "key")
    assert one == encode_statement({"b": "2", "a": "1"}, MATERIALS, "key")


def test_encode_statement_has_the_digests_of_a_wheel_in_order() -> None:
    """A set of texts has another order in each process."""
    digests = [f"{number:064x}" for number in range(16)]
    wheel = Requirement(name="one", version="1", sha256=frozenset(digests))
    value = json.loads(encode_statement({}, replace(MATERIALS, wheels=(wheel,)), "key"))
    _, *rows = value["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [row["digest"]["sha256"] for row in rows] == digests
