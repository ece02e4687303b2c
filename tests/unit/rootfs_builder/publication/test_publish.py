import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.errors import FormatError
from measured_boot.image_files import read_reported
from measured_boot.platforms import Boot
from measured_boot.prediction import predict
from measured_boot.published.dsse import IN_TOTO, key_id, verify_envelope
from rootfs_builder.publication.publish import publish
from tests.fakes.published.built_image import write_built_image
from tests.fakes.published.publications import KEY, LOCK, WHEELS, write_publication

SIGNED = {"provenance.dsse.json", "builder.pub"}
BESIDE = {
    *("measurements.json", "rvps-sample.json", "corim.cbor", "sbom.spdx.json"),
    *("SHA256SUMS", "image-id", *SIGNED),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def statement(folder: Path) -> Any:
    envelope = (folder / "provenance.dsse.json").read_bytes()
    return json.loads(verify_envelope(envelope, IN_TOTO, KEY.public_key()))


def test_publish_writes_exactly_the_documented_files(tmp_path: Path) -> None:
    write_publication(tmp_path)
    assert {name for name in contents(tmp_path) if not name.startswith("ccinit-")} == BESIDE


def test_publish_sums_cover_everything_that_does_not_depend_on_the_key(tmp_path: Path) -> None:
    image_id = write_publication(tmp_path)
    rows = [line.split("  ") for line in (tmp_path / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in rows} == contents(tmp_path).keys() - SIGNED - {
        "SHA256SUMS",
        "image-id",
    }
    for digest, name in rows:
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    sums = hashlib.sha256((tmp_path / "SHA256SUMS").read_bytes()).hexdigest()
    assert image_id == f"sha256:{sums}"
    assert (tmp_path / "image-id").read_text() == f"{image_id}\n"


def test_publish_sums_and_signs_the_debug_tools(tmp_path: Path) -> None:
    tools = {"ccinit-debug-tools.verity", "ccinit-debug-tools.json"}
    for name in tools:
        (tmp_path / name).write_bytes(name.encode())
    write_publication(tmp_path)
    rows = [line.split("  ") for line in (tmp_path / "SHA256SUMS").read_text().splitlines()]
    digests = {name: digest for digest, name in rows if name in tools}
    assert digests == {name: hashlib.sha256(name.encode()).hexdigest() for name in tools}
    signed = {row["name"]: row["digest"]["sha256"] for row in statement(tmp_path)["subject"]}
    assert digests.items() <= signed.items()


def test_publish_another_builder_differs_by_key_only(tmp_path: Path) -> None:
    write_publication(tmp_path)
    before = contents(tmp_path)
    assert publish(tmp_path, LOCK, WHEELS, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == SIGNED


def test_publish_again_leaves_files_alone(tmp_path: Path) -> None:
    write_publication(tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    publish(tmp_path, LOCK, WHEELS, KEY)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


def test_publish_measurements_are_the_predictions_of_both_images(tmp_path: Path) -> None:
    write_publication(tmp_path)
    value = read_json(tmp_path / "measurements.json")
    assert [image["profile"] for image in value["images"]] == ["prod", "test"]
    for image in value["images"]:
        report = tmp_path / f"{image['name']}.json"
        technologies = [row["technology"] for row in image["predictions"]]
        assert technologies == ["tpm", "tdx", "tpm", "tdx"]
        for row in image["predictions"]:
            if row["technology"] == "tpm":
                prediction = predict(read_reported(report, Boot(row["boot"])))
                assert row["registers"]["pcr9"] == prediction.registers[9].hex()
                assert [event["sha256"] for event in row["events"]] == [
                    event.digest.hex() for event in prediction.events
                ]
        kernel, initrd, line = (
            (tmp_path / f"{image['name']}{suffix}").read_bytes()
            for suffix in (".vmlinuz", ".direct.initrd", ".direct.cmdline")
        )
        hashed = {"kernel": kernel, "initrd": initrd, "command_line": line + b"\0"}
        assert image["kernel_hashes"] == {
            name: hashlib.sha256(data).hexdigest() for name, data in hashed.items()
        }
        assert image["files"] == {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in tmp_path.glob(f"{image['name']}.*")
        }
    assert value["version"] == 1


def test_publish_test_image_is_in_nothing_that_is_registered(tmp_path: Path) -> None:
    write_publication(tmp_path)
    prod, test = read_json(tmp_path / "measurements.json")["images"]
    message = read_json(tmp_path / "rvps-sample.json")
    registered = base64.b64decode(message["payload"]).decode()
    corim = (tmp_path / "corim.cbor").read_bytes()
    values = {
        image["name"]: image["predictions"][0]["registers"]["pcr11"] for image in (prod, test)
    }
    assert values["ccinit-prod"] in registered
    assert values["ccinit-test"] not in registered
    assert bytes.fromhex(values["ccinit-prod"]) in corim
    assert bytes.fromhex(values["ccinit-test"]) not in corim
    assert "0" * 64 not in registered


def test_publish_without_production_image_registers_nothing(tmp_path: Path) -> None:
    write_publication(tmp_path, ("test",))
    assert contents(tmp_path).keys() >= BESIDE - {"rvps-sample.json", "corim.cbor"}
    assert not contents(tmp_path).keys() & {"rvps-sample.json", "corim.cbor"}


def test_publish_values_of_a_production_image_that_is_gone_are_removed(tmp_path: Path) -> None:
    write_publication(tmp_path)
    for path in tmp_path.glob("ccinit-prod*"):
        path.unlink()
    publish(tmp_path, LOCK, WHEELS, KEY)
    assert not contents(tmp_path).keys() & {"rvps-sample.json", "corim.cbor"}


def test_publish_provenance_names_files_materials_and_builder(tmp_path: Path) -> None:
    write_publication(tmp_path)
    value = statement(tmp_path)
    names = {row["name"] for row in value["subject"]}
    assert names == contents(tmp_path).keys() - SIGNED
    definition = value["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"profiles": ["prod", "test"]}
    assert definition["resolvedDependencies"] == [
        {"uri": "pkg:deb/debian/libc6@2.41-12", "digest": {"sha256": "1" * 64}},
        {"uri": "pkg:deb/debian/python3.13@3.13.5-2"},  # used, but not the locked version
        {"uri": "pkg:pypi/msgpack@1.2.4", "digest": {"sha256": "3" * 64}},
    ]
    builder = value["predicate"]["runDetails"]["builder"]["id"]
    assert builder.endswith(key_id(KEY.public_key()))


def test_publish_of_an_image_older_than_the_wheel_lock_names_its_own_wheels(tmp_path: Path) -> None:
    """As when the lock was renewed, and one profile built again."""
    old = "msgpack-1.1.0-cp313-cp313-manylinux_2_28_x86_64.whl"
    write_built_image(tmp_path, "prod")
    write_built_image(tmp_path, "test", wheels=[old])
    publish(tmp_path, LOCK, WHEELS, KEY)
    rows = statement(tmp_path)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [row for row in rows if "pypi" in row["uri"]] == [
        {"uri": "pkg:pypi/msgpack@1.1.0"},  # used, but not the locked version
        {"uri": "pkg:pypi/msgpack@1.2.4", "digest": {"sha256": "3" * 64}},
    ]
    packages = read_json(tmp_path / "sbom.spdx.json")["packages"]
    assert [row["versionInfo"] for row in packages if row["name"] == "msgpack"] == [
        *("1.1.0", "1.2.4"),
    ]


@pytest.mark.parametrize("suffix", ["efi", "root.erofs", "direct.initrd"])
def test_publish_file_that_is_not_the_built_one_is_refused(tmp_path: Path, suffix: str) -> None:
    write_publication(tmp_path)
    (tmp_path / f"ccinit-prod.{suffix}").write_bytes(b"other")
    with pytest.raises(FormatError) as error:
        publish(tmp_path, LOCK, WHEELS, KEY)
    assert error.value.reason == "image_report.file"
