import json
import re
from dataclasses import replace
from datetime import UTC, datetime

from rootfs_builder.packages.lock import LockedPackage
from rootfs_builder.packages.wheels import Requirement
from rootfs_builder.publication.sbom import Materials, deb_url, encode_sbom, wheel_url

DEB = LockedPackage(name="libstdc++6", version="1:14.2.0-19+b1", sha256="1" * 64)
WHEEL = Requirement(name="Typing_Extensions", version="4.1", sha256=frozenset({"2" * 64}))
MATERIALS = Materials(
    packages=(DEB, LockedPackage(name="bash", version="5.2", sha256="")),
    wheels=(WHEEL,),
    date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    inputs={"prod": "ab"},
)


def test_encode_sbom_lists_every_package_with_its_digest() -> None:
    document = json.loads(encode_sbom(MATERIALS))
    rows = {row["name"]: row for row in document["packages"]}
    assert list(rows) == ["ccinit-guest", "libstdc++6", "bash", "Typing_Extensions"]
    assert rows["libstdc++6"]["checksums"][0]["checksumValue"] == "1" * 64
    assert rows["Typing_Extensions"]["checksums"][0]["checksumValue"] == "2" * 64
    assert rows["bash"]["checksums"] == []
    assert rows["libstdc++6"]["versionInfo"] == DEB.version


def test_encode_sbom_has_the_identifiers_that_spdx_allows_and_relates_each() -> None:
    document = json.loads(encode_sbom(MATERIALS))
    identities = [row["SPDXID"] for row in document["packages"]]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", text) for text in identities)
    related = [row["relatedSpdxElement"] for row in document["relationships"]]
    assert related == identities


def test_encode_sbom_tells_two_versions_of_one_package_apart() -> None:
    """As when one profile was built again of a renewed lock, and the other was not."""
    versions = ("6.1", "6.1~rc1", "6.1+b1", "6:1")
    packages = tuple(replace(DEB, version=version) for version in versions)
    document = json.loads(encode_sbom(replace(MATERIALS, packages=packages)))
    identities = [row["SPDXID"] for row in document["packages"]]
    assert len(set(identities)) == len(identities) == 6
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", text) for text in identities)


def test_encode_sbom_of_other_packages_is_another_document() -> None:
    """SPDX 2.3, clause 6.5: no two documents have one namespace."""
    one = json.loads(encode_sbom(MATERIALS))
    other = json.loads(encode_sbom(replace(MATERIALS, packages=(DEB,))))
    assert one["documentNamespace"] != other["documentNamespace"]


def test_encode_sbom_depends_on_inputs_alone() -> None:
    assert encode_sbom(MATERIALS) == encode_sbom(MATERIALS)
    document = json.loads(encode_sbom(MATERIALS))
    assert document["creationInfo"]["created"] == "2026-01-02T03:04:05Z"
    other = json.loads(encode_sbom(replace(MATERIALS, inputs={"prod": "cd"})))
    assert other["documentNamespace"] != document["documentNamespace"]


def test_package_urls_are_quoted() -> None:
    assert deb_url(DEB) == "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1"
    assert wheel_url(WHEEL) == "pkg:pypi/typing-extensions@4.1"
